"""Offsets of one partition in order: what has been delivered to the worker and what may be acknowledged.

Faust commits past a held offset when acknowledgements arrive out of order (faust-streaming issues 606, 527), so messages are
acknowledged only from the head of this ledger. One ledger lives for one partition in one consumer generation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pipeline.core.errors import FatalError

M = TypeVar("M")


@dataclass(slots=True)
class _Entry(Generic[M]):
    offset: int
    message: M
    is_done: bool = False


@dataclass(slots=True)
class Ledger(Generic[M]):
    """A FIFO of offsets. ``next_offset`` is where reading starts; None when that is not known before the first message."""

    partition: int
    next_offset: int | None = None
    _entries: deque[_Entry[M]] = field(default_factory=deque)
    _open: dict[int, _Entry[M]] = field(default_factory=dict)

    def add(self, offset: int, message: M) -> None:
        """Enter the next message. Raises FatalError on a hole: a message was lost inside the client, the worker must read again."""
        if self.next_offset is not None and offset != self.next_offset:
            raise FatalError(f"partition {self.partition}: offset {offset} came where {self.next_offset} was due")
        entry = _Entry(offset, message)
        self._entries.append(entry)
        self._open[offset] = entry
        self.next_offset = offset + 1

    def done(self, offset: int) -> Iterator[M]:
        """Mark ``offset`` as finished; yield the messages that may be acknowledged now, in order."""
        entry = self._open.pop(offset, None)
        if entry is not None:
            entry.is_done = True
        while self._entries and self._entries[0].is_done:
            yield self._entries.popleft().message

    def __len__(self) -> int:
        return len(self._entries)
