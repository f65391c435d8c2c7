"""One engine per worker, shared by all its calls: work is collected into batches and run in threads, never on the event loop."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Generic

from pipeline.core.contract import Engine, R, W
from pipeline.core.errors import FatalError


@dataclass(slots=True)
class InferenceCounts:
    """What has gone through an inference service: items, batches, and optional items that were skipped under load."""

    items: int = 0
    batches: int = 0
    skipped: int = 0


class Inference(Generic[W, R]):
    """Runs an engine.

    Each of ``threads`` threads takes what is waiting, up to ``max_batch`` items of one bucket, in the order of arrival; with a
    batch larger than one it waits up to ``max_wait_ms`` for company. A call asks for one item at a time, so that a call with a
    backlog stands behind every other call again after each item. Optional work is not admitted while other work waits or every
    thread is busy: it is answered with None at once.
    """

    def __init__(self, engine: Engine[W, R], *, threads: int, max_batch: int, max_wait_ms: int) -> None:
        self.counts = InferenceCounts()
        self._engine = engine
        self._bucket = getattr(engine, "bucket", _one_bucket)
        self._threads = threads
        self._max_batch = max_batch
        self._max_wait = max_wait_ms / 1000
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="inference")
        self._queue: deque[tuple[W, Hashable, asyncio.Future[R]]] = deque()
        self._arrived = asyncio.Event()
        self._busy = 0
        self._waiting: set[asyncio.Future[R]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start taking work; call once, on the running loop."""
        self._tasks = [asyncio.create_task(self._serve()) for _ in range(self._threads)]

    async def infer(self, work: W) -> R | None:
        """Return the engine's result for ``work``, None for optional work that was not admitted; raises what the engine raised."""
        if getattr(work, "is_optional", False) and (self._queue or self._busy >= self._threads):
            self.counts.skipped += 1
            return None
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        self._queue.append((work, self._bucket(work), future))
        self._arrived.set()
        return await future

    def counted(self) -> dict[str, int]:
        """Return what has gone through since the start, and what the engine counts besides."""
        return asdict(self.counts) | getattr(self._engine, "counts", dict)()

    async def stop(self) -> None:
        """Stop taking work and wait for the threads; who still waits hears FatalError."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(FatalError("inference has stopped"))
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._collect()
            if not batch:
                continue
            self._busy += 1
            try:
                results = await loop.run_in_executor(self._executor, self._engine.infer, [work for work, _ in batch])
                if len(results) != len(batch):
                    raise FatalError(f"the engine gave {len(results)} results for {len(batch)} items")
            except Exception as error:  # every waiting call hears of it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            finally:
                self._busy -= 1
            self.counts.items += len(batch)
            self.counts.batches += 1
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _collect(self) -> list[tuple[W, asyncio.Future[R]]]:
        """Return the next batch: the item that has waited longest, and others of its bucket."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        batch: list[tuple[W, asyncio.Future[R]]] = []
        bucket = self._queue[0][1]
        self._take(bucket, batch)
        deadline = asyncio.get_running_loop().time() + self._max_wait
        while self._max_wait and len(batch) < self._max_batch:
            wait = deadline - asyncio.get_running_loop().time()
            if wait <= 0:
                break
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), wait)
            except TimeoutError:
                break
            self._take(bucket, batch)
        return batch

    def _take(self, bucket: Hashable, batch: list[tuple[W, asyncio.Future[R]]]) -> None:
        """Move waiting items of ``bucket`` into ``batch`` while there is room; the others keep their order."""
        others = []
        while self._queue and len(batch) < self._max_batch:
            work, its_bucket, future = self._queue.popleft()
            if future.done():  # its call is gone
                continue
            if its_bucket == bucket:
                batch.append((work, future))
            else:
                others.append((work, its_bucket, future))
        self._queue.extendleft(reversed(others))


def inference_of(engine: Engine[W, R], settings: Any) -> Inference[W, R]:
    """Return the inference service of a worker: what the ``runtime`` section leaves open, the engine decides."""
    max_batch = settings.max_batch or engine.max_batch
    threads = settings.threads or engine.threads or os.cpu_count() or 1
    return Inference(
        engine, threads=threads, max_batch=max_batch, max_wait_ms=settings.max_wait_ms if max_batch > 1 else 0
    )


def _one_bucket(work: Any) -> Hashable:
    return None
