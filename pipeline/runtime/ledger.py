"""Offsets of one partition in order: what has been delivered to the worker, and up to where it may be committed.

Faust commits past a held offset when acknowledgements arrive out of order (faust-streaming issues 606, 527), so what it commits is
what this ledger says. One ledger lives for one partition in one consumer generation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.core.errors import FatalError


@dataclass(slots=True)
class Ledger:
    """Offsets from ``head`` on are not finished yet. ``next_offset`` is the next one to come; None before the first is known."""

    partition: int
    next_offset: int | None = None
    head: int | None = None
    _done: set[int] = field(default_factory=set)  # finished ones that wait for an earlier one

    def add(self, offset: int) -> None:
        """Enter the next offset. Raises FatalError on a hole: a record was lost inside the client, the worker must read again."""
        if self.next_offset is not None and offset != self.next_offset:
            raise FatalError(f"partition {self.partition}: offset {offset} came where {self.next_offset} was due")
        if self.head is None:
            self.head = offset
        self.next_offset = offset + 1

    def done(self, offset: int) -> int | None:
        """Mark ``offset`` as finished; return the offset that may be committed when that has moved, else None."""
        if self.head is None or self.next_offset is None or not self.head <= offset < self.next_offset:
            return None
        self._done.add(offset)
        if offset != self.head:
            return None
        while self.head in self._done:
            self._done.discard(self.head)
            self.head += 1
        return self.head

    def __len__(self) -> int:
        return 0 if self.head is None or self.next_offset is None else self.next_offset - self.head
