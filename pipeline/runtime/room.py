"""How much a worker takes into memory: records and bytes that wait for compute, or for the broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

AGAIN = 8  # a full partition is read again when one part in so many of its share is free: not for every record


class Room:
    """Counts what is inside, up to ``records`` and ``size_bytes``. One record is always let in, however large."""

    def __init__(self, records: int, size_bytes: int) -> None:
        self._records = records
        self._bytes = size_bytes
        self.inside = 0
        self.inside_bytes = 0
        self._changed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Return whether nothing more is let in."""
        return self.inside >= self._records or self.inside_bytes >= self._bytes

    async def enter(self, size: int) -> None:
        """Wait until there is room, and take it."""
        while self.is_full:
            self._changed.clear()
            await self._changed.wait()
        self.inside += 1
        self.inside_bytes += size

    def leave(self, size: int) -> None:
        """Give back the room of one record."""
        self.inside -= 1
        self.inside_bytes -= size
        self._changed.set()


class FairRoom:
    """Counts what is inside of a worker's input. Every assigned partition has an equal share of ``records`` and ``size_bytes``.

    Nobody waits to enter: of a partition that has its share inside nothing is read (`pipeline.runtime.transport`), and the others
    go on. Inside are at most the room and, of each partition, fewer records than `transport.STEP` above its share (or a single one,
    which is let in, however large). What was fetched and has no room, 9 MB of a partition at most, is aiokafka's and comes on top.
    """

    def __init__(self, records: int, size_bytes: int) -> None:
        self._room = (records, size_bytes)
        self._share = self._room
        self._records: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()
        self._full: set[int] = set()
        self._emptied = asyncio.Event()
        self.freed: Callable[[], None] = lambda: None  # called when a partition that was full is so no longer

    @property
    def inside(self) -> int:
        """Return how many records are inside."""
        return self._records.total()

    @property
    def inside_bytes(self) -> int:
        """Return their size."""
        return self._bytes.total()

    def share_out(self, partitions: int) -> None:
        """Divide the room among so many partitions."""
        records, size = self._room
        self._share = max(1, records // max(1, partitions)), max(1, size // max(1, partitions))

    def is_full(self, partition: int, records: int = 0, size: int = 0) -> bool:
        """Return whether nothing of the partition is read when ``records`` of ``size`` are about to enter. Any thread may ask."""
        return partition in self._full or self._reaches(1.0, partition, records, size)

    def enter(self, partition: int, size: int) -> None:
        """Take room for one record."""
        self._records[partition] += 1
        self._bytes[partition] += size
        if self._reaches(1.0, partition):
            self._full.add(partition)

    def leave(self, partition: int, sizes: Sequence[int]) -> None:
        """Give back the room of records of these sizes."""
        self._records[partition] -= len(sizes)
        self._bytes[partition] -= sum(sizes)
        if partition in self._full and not self._reaches(1 - 1 / AGAIN, partition):
            self._full.discard(partition)
            self.freed()
        if not self.inside:
            self._emptied.set()

    async def empty(self) -> None:
        """Wait until nothing is inside."""
        while self.inside:
            self._emptied.clear()
            await self._emptied.wait()

    def _reaches(self, part: float, partition: int, records: int = 0, size: int = 0) -> bool:
        """Return whether the partition would hold more than nothing, and ``part`` of its share."""
        records, size = self._records[partition] + records, self._bytes[partition] + size
        return records > 0 and (records >= part * self._share[0] or size >= part * self._share[1])
