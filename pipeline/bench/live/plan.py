"""What the feeder is told: which calls, from which files, starting when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.core.speakers import MIXED

GOLDEN_RATIO = 0.6180339887498949  # its multiples modulo 1 spread evenly however many there are


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """One call: ``recording`` is a key of `FeedPlan.recordings`; it starts ``start_seconds`` after the feed."""

    call_id: str
    recording: str
    start_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRecording:
    """A file and who is on its channels, by ascending channel."""

    path: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPlan:
    """Everything one feed does."""

    record_seconds: float
    recordings: dict[str, PlannedRecording]
    calls: tuple[PlannedCall, ...]

    @property
    def has_mixed_channels(self) -> bool:
        """Return whether there are channels with several speakers."""
        return any(MIXED in recording.roles for recording in self.recordings.values())

    @property
    def last_start_seconds(self) -> float:
        """Return when the last call starts, after the feed's start."""
        return max(call.start_seconds for call in self.calls)

    def write(self, path: Path) -> None:
        """Write the plan as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def read_plan(path: Path) -> FeedPlan:
    """Return the plan that `FeedPlan.write` wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return FeedPlan(
        record_seconds=document["record_seconds"],
        recordings={
            name: PlannedRecording(path=one["path"], roles=tuple(one["roles"]))
            for name, one in document["recordings"].items()
        },
        calls=tuple(PlannedCall(**call) for call in document["calls"]),
    )


def spread_calls(
    count: int, recordings: Sequence[str], *, spread_seconds: float, record_seconds: float
) -> tuple[PlannedCall, ...]:
    """Return ``count`` calls whose starts are spread evenly over ``spread_seconds``, taking ``recordings`` in turn.

    Real calls do not begin on a common grid: each start is moved by less than one record, so that the records of all calls
    come due evenly in time.
    """
    return tuple(
        PlannedCall(
            call_id=f"live-{index:04d}",
            recording=recordings[index % len(recordings)],
            start_seconds=round(spread_seconds * index / count + index * GOLDEN_RATIO % 1 * record_seconds, 4),
        )
        for index in range(count)
    )


def capture_start_ms(origin_ms: int, call: PlannedCall) -> int:
    """Return the wall-clock time of a call's first sample, when the feed began at ``origin_ms``."""
    return origin_ms + round(call.start_seconds * 1000)
