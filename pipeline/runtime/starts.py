"""How calls have started whose `started` record was deleted before a stage read it: call.state tells.

One read of a partition of call.state serves every call of it for a while. The broker is asked beside the event loop, and waited for.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import dataclass, field

from pipeline.core.errors import NotReadyError
from pipeline.runtime.call_state import partition_of, state_records
from pipeline.runtime.lookups import aside
from pipeline.runtime.read import decode
from pipeline.runtime.settings import Settings
from pipeline.runtime.waits import FIRST_RETRY_SECONDS, doubling
from schemas.codec import Codec, CodecError
from schemas.records import CallState, Started

KEPT_SECONDS = 30.0
MAX_BYTES = 16 * 1024 * 1024  # of states that are kept; what does not fit is read when it is asked for

log = logging.getLogger("callscribe.worker")


@dataclass(slots=True)
class _Partition:
    """The latest states of one partition, encoded, by key; not all of them where they were too many."""

    read_at: float
    values: dict[bytes, bytes] = field(default_factory=dict)
    size: int = 0
    is_whole: bool = True

    def put(self, key: bytes, value: bytes | None) -> None:
        self.size -= len(self.values.pop(key, b""))
        if value is not None:
            self.values[key] = value
            self.size += len(value)

    def shrink(self, wanted: bytes) -> None:
        while self.size > MAX_BYTES and (oldest := next((key for key in self.values if key != wanted), None)):
            self.put(oldest, None)
            self.is_whole = False


class CallStarts:
    """How calls have started, as far as call.state knows. One object serves every thread and task of a process."""

    def __init__(self, settings: Settings, codec: Codec, *, first_retry_seconds: float = FIRST_RETRY_SECONDS) -> None:
        self._settings = settings
        self._codec = codec
        self._first_retry = first_retry_seconds
        self._lock = threading.Lock()
        self._turn = asyncio.Lock()
        self._kept: dict[int, _Partition] = {}
        self._count = 0  # of partitions; 0 before it is known

    async def find(self, call_id: str) -> Started | None:
        """Return how a call has started, without its attributes; None where nobody knows. Waits while the broker is away."""
        waits = doubling(self._first_retry)
        while True:
            try:
                async with self._turn:  # calls of one partition wait for one read
                    return await aside(lambda: self.look_up(call_id))
            except NotReadyError as error:
                log.warning("%s; a call whose start was deleted waits for it", error, extra={"call_id": call_id})
            await asyncio.sleep(next(waits))

    def look_up(self, call_id: str) -> Started | None:
        """Return how a call has started, without its attributes; None where nobody knows. Raises NotReadyError."""
        key = call_id.encode()
        with self._lock:
            kept = self._kept.get(partition_of(call_id, self._count)) if self._count else None
            is_old = kept is None or time.monotonic() - kept.read_at > KEPT_SECONDS
            if kept is None or is_old or not (kept.is_whole or key in kept.values):
                kept = self._read(call_id, key)
                partition = partition_of(call_id, self._count)
                self._kept[partition] = kept
                self._forget(partition)
            value = kept.values.get(key)
        if value is None:
            return None
        try:
            return decode(self._codec, value, CallState).started
        except CodecError as error:
            log.warning("topic call.state: a state is unreadable: %s", error, extra={"call_id": call_id})
            return None

    def _read(self, call_id: str, key: bytes) -> _Partition:
        found = _Partition(time.monotonic())
        with state_records(self._settings, call_id) as (self._count, messages):
            for message in messages:
                found.put(message.key() or b"", message.value())
                found.shrink(key)
        return found

    def _forget(self, partition: int) -> None:
        """Let go of what was read longest ago, but for ``partition``, until the rest is small enough."""
        others = sorted((kept.read_at, number) for number, kept in self._kept.items() if number != partition)
        for _, number in others:
            if sum(kept.size for kept in self._kept.values()) <= MAX_BYTES:
                return
            del self._kept[number]
