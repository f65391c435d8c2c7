"""Decoding that may have to ask the schema registry: never on the event loop, and for as long as the registry is away.

A record is not to blame for a registry that does not answer. Its call waits and everything else goes on: only ids that nobody has met
yet are asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

from pipeline.runtime.waits import FIRST_RETRY_SECONDS, doubling
from schemas.codec import HEADER, Codec, Record
from schemas.registry import RegistryError

R = TypeVar("R", bound=Record)
T = TypeVar("T")

MAX_REQUESTS = 4
TELL_SECONDS = 10.0  # between two lines of the log, however many calls wait

log = logging.getLogger("callscribe.worker")


class Lookups:
    """Decodes for tasks of one event loop. ``first_retry_seconds`` is the wait behind a request that failed first; it doubles."""

    def __init__(self, codec: Codec, *, first_retry_seconds: float = FIRST_RETRY_SECONDS) -> None:
        self._codec = codec
        self._first_retry = first_retry_seconds
        self._requests = asyncio.Semaphore(MAX_REQUESTS)
        self._askers: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._told: float | None = None

    async def decode(self, data: bytes | None, kind: type[R]) -> R:
        """Return the record of framed bytes; waits for the registry where its schema must be asked for. Raises CodecError."""
        record = self._codec.decode_known(data, kind)
        if record is not None:
            return record
        assert data is not None
        header = data[: HEADER.size]
        asker = self._askers.get(header)
        if asker is None:
            asker = self._askers[header] = asyncio.Lock()
        async with asker:  # calls that meet the same id wait for one answer
            return self._codec.decode_known(data, kind) or await self._ask(data, kind)

    async def _ask(self, data: bytes, kind: type[R]) -> R:
        waits = doubling(self._first_retry)
        while True:
            try:
                async with self._requests:
                    return await aside(lambda: self._codec.decode(data, kind))
            except RegistryError as error:
                self._tell(error)
            await asyncio.sleep(next(waits))

    def _tell(self, error: RegistryError) -> None:
        now = asyncio.get_running_loop().time()
        if self._told is None or now >= self._told + TELL_SECONDS:
            self._told = now
            log.warning("%s: calls with a schema that is not known yet wait for it", error)


async def aside(work: Callable[[], T]) -> T:
    """Return what ``work`` returns in a daemon thread: an executor's threads would keep the process from ending while they wait."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(outcome: Callable[[], None]) -> None:
        if not answer.done():  # else it was cancelled
            outcome()

    def run() -> None:
        try:
            outcome = partial(answer.set_result, work())
        except Exception as error:
            outcome = partial(answer.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, outcome)

    threading.Thread(target=run, name="lookup", daemon=True).start()
    return await answer
