"""Notices that this process stood still: stopped, swapped out, its machine suspended.

A worker that stood still for longer than its session has lost its partitions without knowing it. What it still holds may be old, and
must not be written behind what their new owner has written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

BEATS = 20  # within the limit


def clock() -> float:
    """Return seconds of a clock that goes on while the process, or the machine, stands still (clock_gettime(2))."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Pulse:
    """Beats on the event loop. ``on_late`` hears of the first beat, or check, that came ``limit_seconds`` too late."""

    def __init__(
        self, limit_seconds: float, on_late: Callable[[float], None], *, clock: Callable[[], float] = clock
    ) -> None:
        self._limit = limit_seconds
        self._on_late = on_late
        self._clock = clock
        self._last: float | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat; call once, on the running loop."""
        self._last = self._clock()
        self._task = asyncio.create_task(self._beat(), name="pulse")

    def check(self) -> None:
        """Hear now whether the loop stood still; before anything is written that must not be old."""
        if self._last is None:
            return
        late = self._clock() - self._last
        if late > self._limit:
            self._on_late(late)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._limit / BEATS)
            self.check()
            self._last = self._clock()
