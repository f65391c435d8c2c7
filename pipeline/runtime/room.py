"""How much a worker takes into memory: records and bytes that wait for compute."""

from __future__ import annotations

import asyncio


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
            await self._wait()
        self.inside += 1
        self.inside_bytes += size

    def leave(self, size: int) -> None:
        """Give back the room of one record."""
        self.inside -= 1
        self.inside_bytes -= size
        self._changed.set()

    async def empty(self) -> None:
        """Wait until nothing is inside."""
        while self.inside:
            await self._wait()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
