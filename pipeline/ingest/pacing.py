"""When a record is due: at once, or when a live call would have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Speed = Literal["real", "max"]


class FeedStopped(Exception):
    """The operator stopped the feed."""


class Pace:
    """Holds the records of one call back until they are due.

    With ``speed`` real a position is due when as much time has passed since the first one; each is measured from the
    start, so waits that are too long do not add up. ``monotonic`` returns seconds; ``wait_stopped`` waits so many
    seconds and returns whether the feed was stopped meanwhile. ``origin`` is the moment of ``monotonic`` at which position 0
    is due, by default that of the first wait: a feed that begins again catches up with it.
    """

    def __init__(
        self,
        *,
        speed: Speed,
        monotonic: Callable[[], float],
        wait_stopped: Callable[[float], bool],
        origin: float | None = None,
    ) -> None:
        self._is_real = speed == "real"
        self._monotonic = monotonic
        self._wait_stopped = wait_stopped
        self._origin = origin

    def is_stopped(self) -> bool:
        """Return whether the feed was stopped."""
        return self._wait_stopped(0.0)

    def wait(self, position_seconds: float) -> None:
        """Return when ``position_seconds`` is due. Raises FeedStopped."""
        remaining = 0.0
        if self._is_real:
            now = self._monotonic()
            if self._origin is None:
                self._origin = now
            remaining = max(self._origin + position_seconds - now, 0.0)
        if self._wait_stopped(remaining):
            raise FeedStopped
