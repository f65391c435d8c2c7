"""One engine per worker, shared by all its calls: work is collected into batches and run in threads, never on the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic

from pipeline.core.contract import Engine, R, W
from pipeline.core.errors import FatalError


class Inference(Generic[W, R]):
    """Runs an engine.

    Each of ``threads`` threads takes what is waiting, up to ``max_batch`` items; with a batch larger than one it waits up to
    ``max_wait_ms`` for company. Order within a call is the caller's business: a call asks for one item at a time.
    """

    def __init__(self, engine: Engine[W, R], *, threads: int, max_batch: int, max_wait_ms: int) -> None:
        self._engine = engine
        self._threads = threads
        self._max_batch = max_batch
        self._max_wait = max_wait_ms / 1000
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="inference")
        self._queue: asyncio.Queue[tuple[W, asyncio.Future[R]]] = asyncio.Queue()
        self._waiting: set[asyncio.Future[R]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start taking work; call once, on the running loop."""
        self._tasks = [asyncio.create_task(self._serve()) for _ in range(self._threads)]

    async def infer(self, work: W) -> R:
        """Return the engine's result for ``work``; raises what the engine raised."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        self._queue.put_nowait((work, future))
        return await future

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
            batch = [item for item in batch if not item[1].cancelled()]
            if not batch:
                continue
            try:
                results = await loop.run_in_executor(self._executor, self._engine.infer, [work for work, _ in batch])
                if len(results) != len(batch):
                    raise FatalError(f"the engine gave {len(results)} results for {len(batch)} items")
            except Exception as error:  # every waiting call hears of it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _collect(self) -> list[Any]:
        batch = [await self._queue.get()]
        if self._max_batch == 1:
            return batch
        deadline = asyncio.get_running_loop().time() + self._max_wait
        while len(batch) < self._max_batch:
            wait = deadline - asyncio.get_running_loop().time()
            try:
                batch.append(self._queue.get_nowait() if wait <= 0 else await asyncio.wait_for(self._queue.get(), wait))
            except (TimeoutError, asyncio.QueueEmpty):
                break
        return batch
