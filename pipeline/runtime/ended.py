"""What a worker keeps of calls that have ended, and for how long.

A stage that died may write again what it had written of a call, long after the call has ended here: without anything left of the
call its records would be taken for a new one. So the lane states go when the broker's committed offset has passed the call's last
record, and a mark of the end stays (who wrote how much, about 200 bytes) for as long as the input holds that record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Mapping

from pipeline.runtime.lane_states import Known, LaneStates

TOGETHER = 500  # marks that are deleted with one confirmation
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

    def restore(self, known: Known) -> bool:
        """Take in a call that was restored; return whether it has ended."""
        if known.ended_offset is None:
            return False
        calls = self._marked if known.is_marked else self._whole
        calls[known.partition][known.call_id] = known.ended_offset
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
            if partition not in held:
                continue
            first, end = held[partition]  # an end below the call's: the topic was deleted, and made again
            gone = [call_id for call_id, offset in calls.items() if not first <= offset < end and call_id not in busy]
            for start in range(0, len(gone), TOGETHER):
                if self._is_over(generation):
                    return
                together = gone[start : start + TOGETHER]
                await self._states.delete(partition, together)
                for call_id in together:
                    calls.pop(call_id, None)
