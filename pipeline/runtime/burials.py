"""Records that belong to no call, on their way to the dead letters: many at a time, since each waits for the broker's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pipeline.runtime.exits import exit_hard
from pipeline.runtime.room import Room

MAX_RECORDS = 256
MAX_BYTES = 8 * 1024 * 1024


class Burials:
    """Buries records in tasks of their own, and releases each (partition, offset) when its dead letter is delivered."""

    def __init__(self, bury: Callable[[Any, Exception], Awaitable[None]], release: Callable[[int, int], None]) -> None:
        self._bury = bury
        self._release = release
        self._room = Room(MAX_RECORDS, MAX_BYTES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancellations = 0

    async def begin(self, record: Any, error: Exception) -> None:
        """Have ``record`` buried, rejected with ``error``; waits while too many are on their way.

        Nothing is begun when `cancel` came meanwhile: the record is not this worker's any more.
        """
        size, before = len(record.value or b"") + len(record.key or b""), self._cancellations
        await self._room.enter(size)
        if self._cancellations != before:
            self._room.leave(size)
            return
        task = asyncio.create_task(self._serve(record, error), name="burial")
        self._tasks.add(task)

        def end(task: asyncio.Task[None]) -> None:  # also of a task that was cancelled before its first step
            self._tasks.discard(task)
            self._room.leave(size)

        task.add_done_callback(end)

    def cancel(self) -> Sequence[asyncio.Task[None]]:
        """Give up what is on its way, and return its tasks, to be waited for: none releases its record."""
        self._cancellations += 1
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        return tasks

    async def _serve(self, record: Any, error: Exception) -> None:
        try:
            await self._bury(record, error)
        except Exception as failure:
            exit_hard(failure)
        else:
            self._release(record.partition, record.offset)
