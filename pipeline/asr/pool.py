"""Several models behind one engine: loaded on demand, unloaded when others need the room or nobody has asked for long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.asr.engine import bucket_of
from pipeline.asr.hypothesis import AsrWork, Hypothesis
from pipeline.core.errors import FatalError, NotReadyError

log = logging.getLogger(__name__)


class LoadedModel(Protocol):
    """A model in memory. It is unloaded by letting go of it."""

    @property
    def max_batch(self) -> int:
        """Return how many windows it decodes together at most."""

    def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
        """Return one hypothesis per window, in order."""


@dataclass(slots=True)
class _Place:
    """A loaded model, how many threads use it, and when it was last asked for."""

    model: LoadedModel
    users: int
    used_at: float


class ModelPool:
    """The asr stage's engine. ``infer`` may run on ``threads`` threads at once.

    At most ``max_loaded`` models are in memory, the ones being loaded included. The least recently used one makes room; those in
    ``kept`` never do, nor do they expire. A model nobody asked for in ``idle_seconds`` (0: for ever) of ``clock`` is unloaded.
    One model is loaded at a time, and the others work on meanwhile. ``loads``, ``evictions`` (to make room), ``expirations`` and
    ``load_seconds`` (of all loads together) are counted.
    """

    def __init__(
        self,
        load: Callable[[str], LoadedModel],
        *,
        kept: Collection[str],
        max_loaded: int,
        idle_seconds: float,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._kept = frozenset(kept)
        self._max_loaded = max_loaded
        self._idle_seconds = idle_seconds
        self.threads = threads
        self._clock = clock
        self._changed = threading.Condition()
        self._places: dict[str, _Place] = {}
        self._loading: str | None = None
        self._leaving: str | None = None  # gets no new users, so that a model in constant use can make room
        self.loads = 0
        self.evictions = 0
        self.expirations = 0
        self.load_seconds = 0.0

    @property
    def loaded(self) -> tuple[str, ...]:
        """Return the names of the models in memory."""
        with self._changed:
            return tuple(self._places)

    @property
    def max_batch(self) -> int:
        """Return how many windows are decoded together at most, by any of the loaded models."""
        with self._changed:
            return max((place.model.max_batch for place in self._places.values()), default=1)

    def counts(self) -> dict[str, int]:
        """Return how often models were loaded, evicted to make room, and unloaded because nobody asked for them."""
        with self._changed:
            return {"loads": self.loads, "evictions": self.evictions, "expirations": self.expirations}

    def bucket(self, work: AsrWork) -> Hashable:
        """Return what windows have in common that can be decoded together."""
        return bucket_of(work)

    def warm(self, names: Sequence[str]) -> None:
        """Load every model once, those that stay first. Raises what loading raises."""
        for name in sorted(names, key=lambda name: name not in self._kept):
            self._take(name)
            self._give_back(name)

    def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
        """Return one hypothesis per window, in order. Raises FatalError when a model cannot be loaded any more."""
        self.expire()
        groups: dict[str, list[int]] = {}
        for index, work in enumerate(batch):
            groups.setdefault(work.model, []).append(index)
        results: dict[int, Hypothesis] = {}
        for name, members in groups.items():
            hypotheses = self._infer_with(name, [batch[index] for index in members])
            results.update(zip(members, hypotheses, strict=True))
        return [results[index] for index in range(len(batch))]

    def expire(self) -> None:
        """Unload the models that nobody has asked for in a while. `infer` does so, too."""
        if not self._idle_seconds:
            return
        with self._changed:
            limit = self._clock() - self._idle_seconds
            for name in [name for name in self._idle() if self._places[name].used_at < limit]:
                self.expirations += 1
                self._unload(name, "it was not used")

    def _infer_with(self, name: str, works: Sequence[AsrWork]) -> list[Hypothesis]:
        try:
            model = self._take(name)
        except NotReadyError as error:
            raise FatalError(f"a model that was there at the start is gone: {error}") from error
        try:
            return model.infer(works)
        finally:
            self._give_back(name)

    def _take(self, name: str) -> LoadedModel:
        """Return a model that stays in memory until it is given back, loaded if it was not. Raises what loading raises."""
        with self._changed:
            while True:
                place = self._places.get(name)
                if place is not None and name != self._leaving:
                    place.users += 1
                    return place.model
                if place is None and self._loading is None and self._has_room():
                    self._loading = name
                    break
                self._changed.wait()
        begin = self._clock()
        try:
            model = self._load(name)
        except BaseException:
            with self._changed:
                self._loading = None
                self._changed.notify_all()
            raise
        with self._changed:
            now = self._clock()
            self._loading = None
            self._places[name] = _Place(model, users=1, used_at=now)
            self.loads += 1
            self.load_seconds += now - begin
            self._changed.notify_all()
        log.info("loaded model %s in %.1f s", name, now - begin)
        return model

    def _give_back(self, name: str) -> None:
        with self._changed:
            place = self._places[name]
            place.users -= 1
            place.used_at = self._clock()
            self._changed.notify_all()

    def _has_room(self) -> bool:
        """Return whether one more model may be loaded; unload the least recently used one for it, or begin to wait for it."""
        if len(self._places) >= self._max_loaded:
            candidates = self._idle() or [name for name in self._places if name not in self._kept]
            oldest = min(candidates, key=lambda name: self._places[name].used_at)
            if self._places[oldest].users:
                self._leave(oldest)
                return False
            self.evictions += 1
            self._unload(oldest, "another one needs its place")
        self._leave(None)
        return True

    def _leave(self, name: str | None) -> None:
        if name != self._leaving:
            self._leaving = name
            self._changed.notify_all()

    def _idle(self) -> list[str]:
        """Return the models that may be unloaded now."""
        return [name for name, place in self._places.items() if not place.users and name not in self._kept]

    def _unload(self, name: str, reason: str) -> None:
        del self._places[name]
        log.info("unloaded model %s: %s", name, reason)
