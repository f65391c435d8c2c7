"""The recordings as live calls on a real broker: how late words are committed, and whether what was shown is what is stored."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import topics
from pipeline.bench.live.broker import BrokerProbe
from pipeline.bench.matching import matched
from pipeline.bench.policy.streaming import shown_and_changed
from pipeline.bench.recordings import Recording
from pipeline.bench.system import System
from pipeline.bench.word_ends import TrueWord
from pipeline.core.errors import FailedError, InputError
from pipeline.ingest.feed import FedCall, FeedOptions
from pipeline.ingest.intake import Intake, Silent, feed_all
from pipeline.ingest.sources import Source
from pipeline.runtime.call_state import CallOutlet
from pipeline.runtime.provisioning import schema_source
from pipeline.runtime.read import read_to_end
from pipeline.runtime.settings import Settings
from schemas.codec import Codec, CodecError
from schemas.records import CallAnnotation

PATIENCE_SECONDS = 120.0  # from the last audio to the stored transcript
POLL_SECONDS = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownWord:
    """A word of call.annotations; times in seconds, those of the word from the start of its call.

    ``committed_at`` is the broker's timestamp of its record, ``began_at`` the capture time of the call's first sample, both since
    the epoch.
    """

    call_id: str
    channel: int
    sequence: int
    text: str
    start_seconds: float
    end_seconds: float
    began_at: float
    committed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFigures:
    """One run. ``latencies`` are seconds from the capture of a word's true end to the broker's timestamp of its commit, of the
    words that were heard right. ``changed`` counts words shown as committed that the stored transcript does not hold at that place.
    """

    calls: int
    shown: int
    changed: int
    latencies: tuple[float, ...] = ()
    restarts: int = 0


def live(
    system: System,
    recordings: Sequence[Recording],
    truth: Mapping[str, Sequence[TrueWord]],
    *,
    at_once: int,
    say: Say,
    kill_after_seconds: float | None = None,
) -> LiveFigures:
    """Feed the recordings in real time, at most ``at_once`` side by side, and return what came of it.

    ``truth`` holds the true words by name of the recording. With ``kill_after_seconds`` the asr worker is killed (SIGKILL) so
    long after the feed began. Raises InputError when a source is refused, FailedError when a call does not complete, NotReadyError
    without a broker.
    """
    probe = BrokerProbe(system.settings)
    try:
        probe.stamp_on_append()
    finally:
        probe.close()
    stop = threading.Event()
    before = system.worker("asr").restarts
    killer = None
    if kill_after_seconds is not None:
        killer = threading.Thread(target=_kill, args=(system, stop, kill_after_seconds), name="killer", daemon=True)
        killer.start()
    try:
        fed = {
            call_id: recording for recording, call_id in _feed(system.settings, recordings, at_once, stop=stop, say=say)
        }
    finally:
        stop.set()
        if killer is not None:
            killer.join()
    _wait_complete(system, set(fed))
    shown = list(_shown(system.settings, set(fed)))
    counts = [_compared(system, call_id, shown) for call_id in fed]
    return LiveFigures(
        calls=len(fed),
        shown=sum(count for count, _ in counts),
        changed=sum(changed for _, changed in counts),
        latencies=tuple(
            latency
            for call_id, recording in fed.items()
            for latency in latencies([word for word in shown if word.call_id == call_id], truth[recording.name])
        ),
        restarts=system.worker("asr").restarts - before,
    )


def latencies(shown: Sequence[ShownWord], truth: Sequence[TrueWord]) -> Iterator[float]:
    """Yield, for every true word of a call that was heard right, how many seconds after its capture it was first committed."""
    first: dict[tuple[int, int, float, float, str], ShownWord] = {}
    for word in shown:
        first.setdefault((word.channel, word.sequence, word.start_seconds, word.end_seconds, word.text), word)
    for channel in sorted({word.channel for word in truth}):
        said = [word for word in truth if word.channel == channel]
        heard = [word for word in first.values() if word.channel == channel]
        for i, j in matched([word.text for word in said], [word.text for word in heard]):
            yield heard[j].committed_at - heard[j].began_at - said[i].end_seconds


def _feed(
    settings: Settings, recordings: Sequence[Recording], at_once: int, *, stop: threading.Event, say: Say
) -> Iterator[tuple[Recording, str]]:
    """Feed all recordings, and yield each with its call id when it has been fed to its end."""
    from ulid import ULID

    outlet = CallOutlet(settings)
    by_name = {recording.name: recording for recording in recordings}

    def feed(source: Source) -> FedCall:
        recording = by_name[source.name]
        intake = Intake(
            options=FeedOptions(roles=recording.roles, record_seconds=settings.ingest.record_seconds),
            raw=None,
            speed="real",
            max_channels=settings.ingest.max_channels,
            new_call_id=lambda: str(ULID()),
            connect=lambda: outlet,
            listener=Silent(),
            stop=stop,
        )
        return intake(source)

    sources = [Source(name=recording.name, path=recording.path) for recording in recordings]
    done = 0
    try:
        for fed in feed_all(sources, feed, workers=min(at_once, len(sources)), stop=stop):
            if fed.outcome != "ended" or fed.call_id is None:
                raise InputError(fed.source, fed.reason or "was not fed to its end")
            done += 1
            say(f"{done} of {len(sources)} calls fed")
            yield by_name[fed.source], fed.call_id
    finally:
        outlet.close()


def _kill(system: System, stop: threading.Event, after_seconds: float) -> None:
    if not stop.wait(after_seconds) and (pid := system.worker("asr").pid):
        os.kill(pid, signal.SIGKILL)


def _wait_complete(system: System, call_ids: set[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not system.is_complete(call_ids):
        if time.monotonic() > deadline:
            raise FailedError(
                f"the calls did not complete within {PATIENCE_SECONDS:.0f} s; logs: {system.settings.work_folder / 'logs'}"
            )
        time.sleep(POLL_SECONDS)


def _shown(settings: Settings, call_ids: set[str]) -> Iterator[ShownWord]:
    """Yield every committed word on call.annotations, those of repeated records too."""
    codec = Codec(schema_source(settings))
    keys = {call_id.encode("ascii") for call_id in call_ids}
    for message in read_to_end(settings, topics.topic("call.annotations").full_name(settings.topics.prefix)):
        if message.key() not in keys:
            continue
        try:
            record = codec.decode(message.value(), CallAnnotation)
        except CodecError:
            continue
        rate = record.sample_rate_hz
        for word in record.words.words if record.words is not None else ():
            yield ShownWord(
                call_id=record.call_id,
                channel=record.channel,
                sequence=record.sequence,
                text=word.text,
                start_seconds=word.start_sample / rate,
                end_seconds=word.end_sample / rate,
                began_at=record.capture_time_ms / 1000 - record.start_sample / rate,
                committed_at=message.timestamp()[1] / 1000,
            )


def _compared(system: System, call_id: str, shown: Sequence[ShownWord]) -> tuple[int, int]:
    transcript = system.transcripts({call_id})[call_id]
    words = (
        (word.channel, word.start_seconds, word.end_seconds, word.text) for word in shown if word.call_id == call_id
    )
    return shown_and_changed(words, transcript)
