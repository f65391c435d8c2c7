"""Feeds that stop in the middle of a call, for tests."""

from __future__ import annotations

from pipeline.core.feeds import Place
from pipeline.demo import assets
from pipeline.demo.feeding import options_of
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import describe, records
from pipeline.runtime.call_state import CallOutlet
from pipeline.runtime.settings import Settings
from schemas.records import Channel, Started
from tests.integration.system import wait_for_words

STARTED = Started(
    channels=(Channel(channel=0, role="mixed", sample_rate_hz=8000, encoding="mulaw", language=None),), tenant="t"
)


class HalfFed:
    """A feed that sends a call part by part, when it is told to. One that is never told has vanished."""

    def __init__(self, settings: Settings, call: assets.DemoCall, call_id: str, *, take_over: bool = False) -> None:
        self.call_id = call_id
        self._settings = settings
        self._outlet = CallOutlet(settings)
        self._delivery = self._outlet.delivery()
        options = options_of(call, settings.ingest.record_seconds)
        with open_audio(call.path, name=call_id) as audio:
            self._started = describe(audio, options, call_id=call_id, capture_start_ms=0).started
            grant = self._outlet.take(call_id, started=self._started, is_new=not take_over, take_over=take_over)
            self._epoch = grant.feed_epoch
            self._records = list(
                records(
                    audio,
                    options,
                    call_id=call_id,
                    capture_start_ms=0,
                    feed_epoch=grant.feed_epoch,
                    next_control=grant.next_control,
                )
            )
        self._sent = 0

    def up_to(self, share: float) -> None:
        """Feed the call up to a share of its records; returns when they are acknowledged."""
        end = round(len(self._records) * share)
        for record in self._records[self._sent : end]:
            self._delivery.send(record)
        self._sent = end
        self._delivery.wait()

    def first_half(self) -> None:
        """Feed the first half of the call; returns when words of it are out."""
        self.up_to(0.5)
        wait_for_words(self._settings, self.call_id)

    def rest(self) -> None:
        """Feed the rest, and say that the call is complete; returns when that is acknowledged."""
        self.up_to(1.0)
        ended = self._records[-1].ended
        assert ended is not None
        place = Place(
            next_sequence={record.channel: record.sequence + 1 for record in self._records},
            end_samples={int(channel): end for channel, end in ended.end_samples.items()},
        )
        self._outlet.leave(self.call_id, state="complete", feed_epoch=self._epoch, place=place, started=self._started)
        self._outlet.close()
