from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from pipeline.core.errors import FatalError
from pipeline.runtime.inference import Inference, inference_of
from pipeline.runtime.settings import RuntimeSettings


class Doubling:
    """Doubles; remembers batches and threads; waits at ``gate`` when there is one; fails on negative items."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.entered = threading.Semaphore(0)
        self._gate = gate

    def infer(self, batch: Sequence[int]) -> list[int]:
        self.batches.append(list(batch))
        self.threads.add(threading.current_thread().name)
        self.entered.release()
        if self._gate is not None:
            assert self._gate.wait(10)
        if min(batch) < 0:
            raise ValueError("negative")
        return [2 * item for item in batch]


def serve(engine: Doubling, use: Callable[[Inference[int, int]], Awaitable[Any]], **options: int) -> Any:
    """Run ``use`` with a started inference, and stop it."""

    async def bounded() -> Any:
        inference = Inference(engine, **({"threads": 1, "max_batch": 1, "max_wait_ms": 0} | options))
        inference.start()
        try:
            return await asyncio.wait_for(use(inference), 10)
        finally:
            await inference.stop()

    return asyncio.run(bounded())


def all_of(*items: int) -> Callable[[Inference[int, int]], Awaitable[Any]]:
    async def use(inference: Inference[int, int]) -> Any:
        return await asyncio.gather(*(inference.infer(item) for item in items), return_exceptions=True)

    return use


def test_everyone_gets_their_own_result() -> None:
    engine = Doubling()
    assert serve(engine, all_of(*range(20))) == [2 * item for item in range(20)]
    assert engine.batches == [[item] for item in range(20)]


def test_work_that_waits_is_collected_up_to_the_largest_batch() -> None:
    engine = Doubling()
    assert serve(engine, all_of(*range(10)), max_batch=4, max_wait_ms=1) == [2 * item for item in range(10)]
    assert engine.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_batch_waits_for_company_but_not_for_ever() -> None:
    async def use(inference: Inference[int, int]) -> Any:
        first = asyncio.ensure_future(inference.infer(1))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(inference.infer(2))
        return await first, await second

    engine = Doubling()
    assert serve(engine, use, max_batch=2, max_wait_ms=5_000) == (2, 4)
    assert engine.batches == [[1, 2]]
    assert serve(Doubling(), all_of(3), max_batch=8, max_wait_ms=1) == [6]


def test_an_exception_reaches_every_call_of_the_batch_and_no_other() -> None:
    results = serve(Doubling(), all_of(1, -1, 2, 3), max_batch=2, max_wait_ms=1)
    assert [type(result) for result in results] == [ValueError, ValueError, int, int]


def test_the_engine_goes_on_after_an_exception() -> None:
    async def use(inference: Inference[int, int]) -> Any:
        with pytest.raises(ValueError, match="negative"):
            await inference.infer(-1)
        return await inference.infer(4)

    assert serve(Doubling(), use) == 8


def test_the_loop_runs_while_the_engine_works() -> None:
    gate = threading.Event()

    async def use(inference: Inference[int, int]) -> Any:
        waiting = asyncio.ensure_future(inference.infer(1))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        gate.set()  # only a loop that is free gets here
        return await waiting

    engine = Doubling(gate)
    assert serve(engine, use) == 2
    assert all(name.startswith("inference") for name in engine.threads)


def test_threads_work_side_by_side() -> None:
    gate = threading.Event()
    engine = Doubling(gate)

    async def use(inference: Inference[int, int]) -> Any:
        waiting = asyncio.gather(inference.infer(1), inference.infer(2))
        for _ in range(2):
            await asyncio.to_thread(engine.entered.acquire, timeout=5)
        gate.set()
        return await waiting

    assert serve(engine, use, threads=2) == [2, 4]
    assert len(engine.threads) == 2


def test_work_of_a_call_that_was_dropped_is_not_done() -> None:
    gate = threading.Event()
    engine = Doubling(gate)

    async def use(inference: Inference[int, int]) -> Any:
        running = asyncio.ensure_future(inference.infer(1))
        await asyncio.to_thread(engine.entered.acquire, timeout=5)
        dropped = asyncio.ensure_future(inference.infer(2))
        await asyncio.sleep(0)
        dropped.cancel()
        gate.set()
        assert await running == 2
        return await inference.infer(3)

    assert serve(engine, use) == 6
    assert engine.batches == [[1], [3]]


def test_a_call_that_is_dropped_while_its_batch_runs_leaves_the_others_alone() -> None:
    gate = threading.Event()
    engine = Doubling(gate)

    async def use(inference: Inference[int, int]) -> Any:
        calls = [asyncio.ensure_future(inference.infer(item)) for item in (1, 2)]
        await asyncio.to_thread(engine.entered.acquire, timeout=5)
        calls[0].cancel()
        gate.set()
        return await calls[1]

    assert serve(engine, use, max_batch=2, max_wait_ms=1_000) == 4


class Losing(Doubling):
    """An engine with a fault: it loses an item of every batch."""

    def infer(self, batch: Sequence[int]) -> list[int]:
        return super().infer(batch)[1:]


def test_an_engine_that_loses_an_item_is_fatal_for_all_of_the_batch() -> None:
    results = serve(Losing(), all_of(1, 2, 3), max_batch=2, max_wait_ms=1)
    assert [type(result) for result in results] == [FatalError] * 3


def test_who_waits_when_inference_stops_is_told() -> None:
    async def use(inference: Inference[int, int]) -> Any:
        waiting = asyncio.ensure_future(inference.infer(1))
        await asyncio.sleep(0)
        await inference.stop()
        with pytest.raises(FatalError, match="stopped"):
            await waiting
        return True

    assert serve(Doubling(), use, max_batch=4, max_wait_ms=60_000)


def test_stopping_ends_threads() -> None:
    before = threading.active_count()
    serve(Doubling(), all_of(1, 2, 3), threads=3)
    assert threading.active_count() == before


class Optional(int):
    """An item that may be skipped."""

    is_optional = True


def test_optional_work_is_not_admitted_while_other_work_waits_or_every_thread_is_busy() -> None:
    gate = threading.Event()
    engine = Doubling(gate)

    async def use(inference: Inference[int, int]) -> Any:
        first = asyncio.create_task(inference.infer(1))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        skipped = await inference.infer(Optional(5))
        waiting = asyncio.create_task(inference.infer(2))
        gate.set()
        done = await asyncio.gather(first, waiting)
        return skipped, done, await inference.infer(Optional(6)), inference.counts

    skipped, done, admitted, counts = serve(engine, use)
    assert (skipped, done, admitted) == (None, [2, 4], 12)
    assert (counts.skipped, counts.items, counts.batches) == (1, 3, 3)


def test_only_items_of_one_bucket_come_together_and_the_oldest_goes_first() -> None:
    class Sorted(Doubling):
        def bucket(self, work: int) -> int:
            return work % 2

    engine = Sorted()
    assert serve(engine, all_of(2, 1, 4, 3, 6, 5), max_batch=2) == [4, 2, 8, 6, 12, 10]
    assert engine.batches == [[2, 4], [1, 3], [6], [5]]


def test_a_call_with_a_backlog_takes_its_turn() -> None:
    """One item at a time per call: whoever asks again stands behind the others."""
    engine = Doubling()

    async def use(inference: Inference[int, int]) -> None:
        async def call(items: Sequence[int]) -> None:
            for item in items:
                await inference.infer(item)

        await asyncio.gather(call(range(100, 120)), call([1, 2, 3]))

    serve(engine, use)
    order = [batch[0] for batch in engine.batches]
    assert max(order.index(item) for item in (1, 2, 3)) <= 6


def test_the_engine_decides_what_the_settings_leave_open() -> None:
    engine = Doubling()
    engine.max_batch, engine.threads = 7, 3  # type: ignore[attr-defined]
    chosen = inference_of(engine, RuntimeSettings())
    assert (chosen._max_batch, chosen._threads) == (7, 3)
    given = inference_of(engine, RuntimeSettings(max_batch=2, threads=1))
    assert (given._max_batch, given._threads) == (2, 1)


def test_what_went_through_is_told_with_what_the_engine_counts() -> None:
    class Counting(Doubling):
        def counts(self) -> dict[str, int]:
            return {"loads": 3}

    async def use(inference: Inference[int, int]) -> dict[str, int]:
        await asyncio.gather(inference.infer(1), inference.infer(2))
        return inference.counted()

    assert serve(Counting(), use) == {"items": 2, "batches": 2, "skipped": 0, "loads": 3}
    assert serve(Doubling(), use) == {"items": 2, "batches": 2, "skipped": 0}
