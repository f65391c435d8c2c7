"""Feeds that have gone silent, and calls whose feed does not come back: when the worker that reads a partition may say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


class BrokenOff:
    """Interrupted calls. One is over for good when retention has deleted the last that was heard of it.

    Without an end, every stage would keep its state for ever, customers' words included.
    """

    def __init__(self) -> None:
        self._calls: dict[str, tuple[int, int]] = {}

    @property
    def has_any(self) -> bool:
        """Return whether there are any."""
        return bool(self._calls)

    def note(self, call_id: str, partition: int, offset: int) -> None:
        """Note a call, the last record of which is at ``offset``."""
        self._calls[call_id] = (partition, offset)

    def forget(self, call_id: str) -> None:
        """Drop a call that speaks again."""
        self._calls.pop(call_id, None)

    def clear(self) -> None:
        """Forget everything of a generation."""
        self._calls.clear()

    def deleted(self, held: Mapping[int, tuple[int, int]]) -> list[tuple[str, int]]:
        """Return the calls, with their partitions, of which the input holds nothing any more; ``held`` as `Positions.held`."""
        return [
            (call_id, partition)
            for call_id, (partition, offset) in self._calls.items()
            if partition in held and offset < held[partition][0]
        ]
