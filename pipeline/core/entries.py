"""What a flow keeps of one lane: its place in the input and the output, and the logic's state."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic

from pipeline.core.contract import Lane, S
from schemas.records import LaneState


@dataclass(slots=True)
class Held:
    """An input record a lane may still need after a restart."""

    writer: str
    sequence: int
    is_control: bool
    offset: int


@dataclass(slots=True)
class LaneEntry(Generic[S]):
    """One channel of the call, or the call's control lane (``state`` None)."""

    channel: int
    rate: int
    state: S | None = None
    lane: Lane | None = None
    next_sequence: dict[str, int] = field(default_factory=dict)
    done_sequence: dict[str, int] = field(default_factory=dict)  # after a restart: what lies below rebuilds buffers
    next_control: dict[str, int] = field(default_factory=dict)
    output_sequence: int = 0
    held: deque[Held] = field(default_factory=deque)
    anchor: tuple[int, int] | None = None  # (sample, ms since the epoch)
    released_offset: int = -1
    is_dirty: bool = False

    def capture_time_ms(self, sample: int) -> int:
        """Return when ``sample`` was captured, by the lane's last input record; ms since the epoch, 0 when unknown."""
        if self.anchor is None:
            return 0
        return max(0, self.anchor[1] + (sample - self.anchor[0]) * 1000 // self.rate)


def restored_entry(lane: LaneEntry[S], state: LaneState) -> LaneEntry[S]:
    """Return ``lane`` standing where the recorded state stands."""
    lane.next_sequence = {position.writer: position.needed_sequence for position in state.positions}
    lane.done_sequence = {position.writer: position.next_sequence for position in state.positions}
    lane.next_control = {position.writer: position.next_control for position in state.positions}
    lane.output_sequence = state.output_sequence
    if state.anchor_sample is not None and state.anchor_time_ms is not None:
        lane.anchor = (state.anchor_sample, state.anchor_time_ms)
    return lane
