"""What a worker keeps of calls that have ended, and for how long.

A stage that died may write again what it had written of a call, long after the call has ended here: without anything left of the
call its records would be taken for a new one. So the lane states go when the broker's committed offset has passed the call's last
record, and a mark of the end stays (who wrote how much, about 200 bytes) for as long as the input holds that record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Mapping

from pipeline.runtime.lane_states import LaneStates
from schemas.records import LaneState

Calls = dict[int, dict[str, int]]  # offset of the call's last record, by call, by partition


class EndedCalls:
    """Calls of the worker's partitions that have ended. ``is_over`` says that a generation is, and nothing may be written."""

    def __init__(self, states: LaneStates, is_over: Callable[[int], bool]) -> None:
        self._states = states
        self._is_over = is_over
        self._whole: Calls = defaultdict(dict)
        self._marked: Calls = defaultdict(dict)

    @property
    def has_whole(self) -> bool:
        """Return whether states of ended calls wait for a commit."""
        return any(self._whole.values())

    @property
    def has_marked(self) -> bool:
        """Return whether marks wait for retention."""
        return any(self._marked.values())

    def clear(self) -> None:
        """Forget everything of a generation."""
        self._whole.clear()
        self._marked.clear()

    def restore(self, partition: int, control: LaneState) -> bool:
        """Take in the state of a control lane; return whether the call has ended."""
        if control.ended_offset is None:
            return False
        calls = self._marked if control.started is None else self._whole
        calls[partition][control.call_id] = control.ended_offset
        return True

    def end(self, partition: int, call_id: str, offset: int) -> None:
        """Note that a call has ended with the record at ``offset``."""
        self._whole[partition][call_id] = offset

    async def mark(self, generation: int, committed: Mapping[int, int], busy: Container[str]) -> None:
        """Leave a mark of the calls whose last record the committed offset has passed, but for those that are ``busy``."""
        for partition, calls in list(self._whole.items()):
            for call_id, offset in list(calls.items()):
                if self._is_over(generation):
                    return
                if committed.get(partition, -1) > offset and call_id not in busy:
                    await self._states.mark_ended(partition, call_id, generation)
                    if calls.pop(call_id, None) is not None:
                        self._marked[partition][call_id] = offset

    async def forget(self, generation: int, held: Mapping[int, tuple[int, int]], busy: Container[str]) -> None:
        """Delete the marks of calls of which the input has no record any more; it holds offsets (first, end) by partition."""
        for partition, calls in list(self._marked.items()):
            first, end = held.get(partition, (0, 0))
            for call_id, offset in list(calls.items()):
                if self._is_over(generation):
                    return
                is_held = first <= offset < end  # an end below: the topic was deleted, and made again
                if partition in held and not is_held and call_id not in busy:
                    await self._states.delete(partition, call_id)
                    calls.pop(call_id, None)
