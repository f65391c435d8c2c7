"""What retention has deleted of call.segments before the sink stored it, and what is known of the calls it was of."""

from __future__ import annotations

import logging

from confluent_kafka import Message

from pipeline.runtime.call_state import partition_of
from pipeline.runtime.starts import CallStarts
from schemas.records import Started

log = logging.getLogger("callscribe.sink")


class Deletions:
    """The sink's partitions: where they begin, and whether records were missing before the next one."""

    def __init__(self, starts: CallStarts) -> None:
        self._starts = starts
        self._first: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._lost: set[int] = set()
        self.partitions = 1  # of the topic

    def gain(self, partition: int, *, first: int, committed: int | None, offset: int) -> None:
        """Note where the log of a partition begins, what is committed of it, if anything, and where reading starts."""
        self._first[partition], self._next[partition] = first, offset
        missing = first - (committed or 0)
        if missing > 0:
            self._lose(partition, missing)

    def forget(self, partition: int) -> None:
        """Note that a partition comes or goes: another may have read on in it."""
        self._next.pop(partition, None)

    def read(self, message: Message) -> None:
        """Note the next record of a partition; the client goes on behind what was deleted while it read."""
        partition, offset = message.partition(), message.offset()
        missing = offset - self._next.get(partition, offset)
        self._next[partition] = offset + 1
        if missing > 0:
            self._first[partition] = offset
            self._lose(partition, missing)

    def may_lack(self, call_id: str) -> bool:
        """Return whether records of the call may have been deleted before they were read, in this process or an earlier one."""
        return self._first.get(partition_of(call_id, self.partitions), 0) > 0

    def has_lost(self, call_id: str) -> bool:
        """Return whether this process has found that records were deleted where the call's are."""
        return partition_of(call_id, self.partitions) in self._lost

    def started(self, call_id: str) -> Started | None:
        """Return how a call has started whose start was deleted; None where nobody knows. Raises NotReadyError."""
        return self._starts.look_up(call_id)

    def _lose(self, partition: int, count: int) -> None:
        self._lost.add(partition)
        log.error(
            "records were deleted before they were stored: what their calls lack will be a gap",
            extra={"partition": partition, "records": count},
        )
