"""Feeds that have gone silent: when the worker that reads a partition may say so."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.runtime.pulse import clock


class Silence:
    """How long each call has been silent while the broker could be reached.

    A call that was not heard since the worker got its partitions is silent since then: a restart forgets when it spoke last.
    """

    def __init__(self, *, clock: Callable[[], float] = clock) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._since = clock()

    def restart(self) -> None:
        """Forget what was heard: other partitions, or a broker that was away."""
        self._heard.clear()
        self._since = self._clock()

    def hear(self, call_id: str) -> None:
        """Note that the call spoke, or was spoken for."""
        self._heard[call_id] = self._clock()

    def forget(self, call_id: str) -> None:
        """Drop a call that is over."""
        self._heard.pop(call_id, None)

    def seconds(self, call_id: str) -> float:
        """Return how long nothing was heard of the call."""
        return self._clock() - max(self._heard.get(call_id, 0.0), self._since)
