"""Which feed holds a call, and whether it still speaks.

A feed takes a call by raising its epoch; what a feed of a lower epoch sends from then on is dropped. A feed that went silent is
closed by a record in the same log, which the stage that reads the log writes when its clock says so. The decision takes effect where
that record is read, and counts for every lane that has read exactly what the decision had seen; so a restart decides alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.ids import CALL_CHANNEL
from schemas.records import CallAudio, FeedEpoch, Interrupted

MAX_EPOCHS = 8  # feeds that took the call since the oldest record a lane may need again
LIVE, PAUSED, INTERRUPTED = "live", "paused", "interrupted"
STATES: Mapping[str, str] = {
    "started": LIVE,
    "resumed": LIVE,
    "resume": LIVE,
    "pause": PAUSED,
    "interrupted": INTERRUPTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a call stands: by channel (-1 for control) the next sequence, and by leg the end of its audio in samples at its rate."""

    next_sequence: Mapping[int, int] = field(default_factory=dict)
    end_samples: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """That a feed may feed a call: its epoch, and the sequence control records go on with (0: the call is new).

    ``taken_at`` is the offset in call.state at which it was taken. Where nobody can have fed it before it is not ``is_known``.
    """

    feed_epoch: int
    next_control: int
    taken_at: int = 0
    is_known: bool = False


@dataclass(slots=True)
class FeedWatch:
    """The feeds of one call. ``epochs`` are those that took it, oldest first, each with the offset of its first record."""

    epochs: list[FeedEpoch] = field(default_factory=list)
    state: str = LIVE

    @property
    def epoch(self) -> int:
        """Return the epoch of the feed that holds the call; 0 where feeds are not counted."""
        return self.epochs[-1].epoch if self.epochs else 0

    def is_superseded(self, record: Any, offset: int) -> bool:
        """Return whether another feed had taken the call before this record was written."""
        epoch = getattr(record, "feed_epoch", 0)
        return any(taken.epoch > epoch and taken.offset < offset for taken in self.epochs)

    def hear(self, record: Any, offset: int) -> bool:
        """Note who speaks; return whether that has changed something to remember."""
        return self.give(getattr(record, "feed_epoch", 0), offset)

    def is_ended_by(self, record: Any) -> bool:
        """Return whether the feed that holds the call ends it. One that took over may have counted its records on from too low."""
        return bool(record.kind == "ended" and record.feed_epoch >= self.epoch)

    def give(self, epoch: int, offset: int) -> bool:
        """Note that the feed of ``epoch`` holds the call, from ``offset`` on; return whether it is a later one."""
        if epoch <= self.epoch:
            return False
        self.epochs = [*self.epochs, FeedEpoch(epoch=epoch, offset=offset)][-MAX_EPOCHS:]
        return True

    def follow(self, kind: str) -> None:
        """Note what a control record says of the feed."""
        self.state = STATES.get(kind, self.state)


def idle_record(
    call_id: str,
    *,
    epoch: int,
    sequence: int,
    stage: str,
    next_sequence: Mapping[int, int],
    place: tuple[int, int, int],
) -> CallAudio:
    """Return the record by which ``stage`` says that the feed of ``epoch`` has gone silent.

    ``next_sequence`` is the next sequence by channel (-1 for control) of what was read of the feed; ``place`` is (start_sample,
    sample_rate_hz, capture_time_ms) of the control lane.
    """
    start_sample, sample_rate_hz, capture_time_ms = place
    return CallAudio(
        call_id=call_id,
        kind="interrupted",
        channel=CALL_CHANNEL,
        sequence=sequence,
        start_sample=start_sample,
        sample_rate_hz=sample_rate_hz,
        capture_time_ms=capture_time_ms,
        feed_epoch=epoch,
        stage=stage,
        next_sequence={str(channel): count for channel, count in sorted(next_sequence.items())},
        interrupted=Interrupted(reason="idle"),
    )


def has_seen(record: Any, channel: int, next_sequence: int) -> bool:
    """Return whether a decision was made knowing all that a lane has read before it."""
    return bool(record.next_sequence.get(str(channel), 0) == next_sequence)


def restored_feeds(epochs: Iterable[FeedEpoch], state: str) -> FeedWatch:
    """Return the feeds as a lane state remembers them."""
    return FeedWatch(list(epochs), state)
