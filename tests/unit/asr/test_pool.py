"""The pool with scripted models, a clock that is moved by hand, and threads that meet at events."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.asr.hypothesis import AsrWork, Hypothesis
from pipeline.asr.pool import ModelPool
from pipeline.core.errors import FatalError, NotReadyError
from tests.unit.asr.models import window

PATIENCE = 20.0  # a test that waits so long has failed


class Scripted:
    """A model that answers with its name and the number of the window; it may be held in the middle of its work."""

    def __init__(self, name: str, max_batch: int = 1) -> None:
        self.name = name
        self.max_batch = max_batch
        self.batches: list[int] = []
        self.is_held = False
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
        self.batches.append(len(batch))
        if self.is_held:
            self.entered.set()
            assert self.go_on.wait(PATIENCE)
        return [
            Hypothesis(words=(), end_frame=work.frames, no_speech_probability=0.0, language=self.name) for work in batch
        ]


class Shelf:
    """Loads scripted models, notes the order, and takes ``seconds`` of a clock that stands still otherwise."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds = 2.0
        self.order: list[str] = []
        self.models: dict[str, Scripted] = {}
        self.missing: set[str] = set()
        self.held: set[str] = set()
        self.loading = threading.Event()
        self.go_on = threading.Event()

    def load(self, name: str) -> Scripted:
        self.order.append(name)
        if name in self.missing:
            raise NotReadyError(f"model {name!r}: no such folder")
        if name in self.held:
            self.loading.set()
            assert self.go_on.wait(PATIENCE)
        self.now += self.seconds
        self.models[name] = Scripted(name)
        return self.models[name]

    def pool(self, *kept: str, max_loaded: int = 2, idle_seconds: float = 0.0) -> ModelPool:
        return ModelPool(self.load, kept=kept, max_loaded=max_loaded, idle_seconds=idle_seconds, clock=lambda: self.now)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def threads() -> Any:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def ask(pool: ModelPool, *names: str) -> list[str | None]:
    return [found.language for found in pool.infer([window(0.1, model=name) for name in names])]


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; fails after `PATIENCE`."""
    done = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if condition():
            return
        done.wait(0.005)
    raise AssertionError("it never came to that")


def result(future: Future[Any]) -> Any:
    return future.result(PATIENCE)


def test_windows_of_several_models_come_back_in_order_one_batch_per_model(shelf: Shelf) -> None:
    pool = shelf.pool("a", max_loaded=3)
    assert ask(pool, "b", "a", "c", "a", "b") == ["b", "a", "c", "a", "b"]
    assert {name: model.batches for name, model in shelf.models.items()} == {"a": [2], "b": [2], "c": [1]}
    assert pool.infer([]) == []


def test_models_are_loaded_when_they_are_asked_for_and_then_stay(shelf: Shelf) -> None:
    pool = shelf.pool("a")
    assert pool.loaded == ()
    ask(pool, "b")
    ask(pool, "b", "b")
    assert (shelf.order, pool.loaded) == (["b"], ("b",))
    assert (pool.loads, pool.evictions, pool.load_seconds) == (1, 0, 2.0)


def test_warm_loads_those_that_stay_first(shelf: Shelf) -> None:
    pool = shelf.pool("c", max_loaded=2)
    pool.warm(["a", "b", "c"])
    assert shelf.order == ["c", "a", "b"]
    assert set(pool.loaded) == {"b", "c"}


def test_the_least_recently_used_makes_room(shelf: Shelf) -> None:
    pool = shelf.pool("default", max_loaded=3)
    for name in ("default", "a", "b", "a", "c"):
        ask(pool, name)
        shelf.now += 1
    assert set(pool.loaded) == {"default", "a", "c"}
    ask(pool, "b")
    assert set(pool.loaded) == {"default", "b", "c"}
    assert (pool.loads, pool.evictions) == (5, 2)
    assert pool.counts() == {"loads": 5, "evictions": 2, "expirations": 0}


def test_kept_models_neither_make_room_nor_expire(shelf: Shelf) -> None:
    pool = shelf.pool("default", "pinned", max_loaded=3, idle_seconds=10.0)
    pool.warm(["default", "pinned"])
    for name in ("a", "b", "a"):
        shelf.now += 100
        ask(pool, name)
    shelf.now += 100
    pool.expire()
    assert pool.loaded == ("default", "pinned")


def test_an_unused_model_expires(shelf: Shelf) -> None:
    shelf.seconds = 0.0
    pool = shelf.pool("default", max_loaded=3, idle_seconds=10.0)
    ask(pool, "a", "b")
    shelf.now += 9
    ask(pool, "a")
    shelf.now += 9
    assert ask(pool, "default") == ["default"]
    assert set(pool.loaded) == {"a", "default"}
    assert (pool.expirations, pool.evictions) == (1, 0)
    assert ask(pool, "b") == ["b"]


def test_zero_idle_seconds_is_for_ever(shelf: Shelf) -> None:
    pool = shelf.pool("default", idle_seconds=0.0)
    ask(pool, "a")
    shelf.now += 1e9
    pool.expire()
    assert pool.loaded == ("a",)


def test_an_evicted_model_is_let_go(shelf: Shelf) -> None:
    pool = shelf.pool("default", max_loaded=2)
    ask(pool, "a")
    gone = weakref.ref(shelf.models.pop("a"))
    ask(pool, "b", "default")
    assert gone() is None


def test_a_model_that_is_gone_when_it_is_needed_is_fatal(shelf: Shelf) -> None:
    pool = shelf.pool("default")
    shelf.missing = {"a"}
    with pytest.raises(FatalError, match="a model that was there at the start is gone: model 'a': no such folder"):
        ask(pool, "default", "a")
    shelf.missing.clear()
    assert ask(pool, "a") == ["a"]


def test_at_the_start_it_is_not_ready(shelf: Shelf) -> None:
    shelf.missing = {"a"}
    with pytest.raises(NotReadyError, match="no such folder"):
        shelf.pool("default").warm(["default", "a"])


def test_an_error_of_a_model_goes_through_and_gives_it_back(shelf: Shelf) -> None:
    pool = shelf.pool("default", max_loaded=2)
    ask(pool, "a")

    def fail(batch: Sequence[AsrWork]) -> list[Hypothesis]:
        raise RuntimeError("broken")

    shelf.models["a"].infer = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="broken"):
        ask(pool, "a")
    assert ask(pool, "b", "default") == ["b", "default"]
    assert pool.evictions == 1


def test_the_largest_batch_of_the_loaded_models_counts(shelf: Shelf) -> None:
    pool = shelf.pool("default", max_loaded=3)
    assert pool.max_batch == 1
    ask(pool, "a", "b")
    shelf.models["b"].max_batch = 16
    assert pool.max_batch == 16


def test_one_thread_loads_and_the_others_get_the_same_model(shelf: Shelf, threads: ThreadPoolExecutor) -> None:
    pool = shelf.pool("default")
    shelf.held = {"a"}
    asked = [threads.submit(ask, pool, "a") for _ in range(4)]
    assert shelf.loading.wait(PATIENCE)
    shelf.go_on.set()
    assert [result(future) for future in asked] == [["a"]] * 4
    assert shelf.order == ["a"]


def test_loaded_models_work_while_another_is_loaded(shelf: Shelf, threads: ThreadPoolExecutor) -> None:
    pool = shelf.pool("default", max_loaded=3)
    pool.warm(["default"])
    shelf.held = {"a"}
    first = threads.submit(ask, pool, "a")
    assert shelf.loading.wait(PATIENCE)
    assert ask(pool, "default") == ["default"]
    second = threads.submit(ask, pool, "b")
    assert shelf.order == ["default", "a"]  # one load at a time
    shelf.go_on.set()
    assert (result(first), result(second)) == (["a"], ["b"])


def test_a_model_in_use_is_waited_for_and_gets_no_new_users(shelf: Shelf, threads: ThreadPoolExecutor) -> None:
    pool = shelf.pool("default", max_loaded=2)
    pool.warm(["default", "a"])
    old = shelf.models["a"]
    old.is_held = True
    in_use = threads.submit(ask, pool, "a")
    assert old.entered.wait(PATIENCE)
    waiting = threads.submit(ask, pool, "b")
    until(lambda: pool._leaving == "a")
    late = threads.submit(ask, pool, "a")
    assert ask(pool, "default") == ["default"]
    assert not waiting.done()
    assert old.batches == [1]
    old.go_on.set()
    assert [result(future) for future in (in_use, waiting, late)] == [["a"], ["b"], ["a"]]
    assert shelf.order == ["default", "a", "b", "a"]
    assert shelf.models["a"] is not old


def test_a_failed_load_wakes_those_who_wait(shelf: Shelf, threads: ThreadPoolExecutor) -> None:
    pool = shelf.pool("default", max_loaded=3)
    shelf.held, shelf.missing = {"b"}, set()
    blocked = threads.submit(ask, pool, "b")
    assert shelf.loading.wait(PATIENCE)
    shelf.missing = {"c"}
    failing = threads.submit(ask, pool, "c")
    other = threads.submit(ask, pool, "a")
    shelf.go_on.set()
    assert result(blocked) == ["b"]
    with pytest.raises(FatalError):
        result(failing)
    assert result(other) == ["a"]


def test_many_threads_and_models_in_little_room(shelf: Shelf, threads: ThreadPoolExecutor) -> None:
    pool = shelf.pool("default", max_loaded=2)
    names = ["default", "a", "b", "c"]
    asked = [
        threads.submit(ask, pool, names[index % 4], names[index // 4 % 4], names[index // 16 % 4])
        for index in range(64)
    ]
    for index, future in enumerate(asked):
        assert result(future) == [names[index % 4], names[index // 4 % 4], names[index // 16 % 4]]
    assert len(pool.loaded) <= 2
    assert "default" in pool.loaded
    assert pool.loads == len(shelf.order) == pool.evictions + len(pool.loaded)
