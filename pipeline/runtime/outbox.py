"""What a stage writes: one librdkafka producer per worker, and one confirmation for all records of a burst.

Faust's producer is Python down to the protocol and gives every record a future of its own; that was a quarter of what a busy worker
took. Here the records go to librdkafka's threads, and the loop hears of acknowledgements once per answer of the broker.

A record waits for a broker that is away as long as that takes. One that was given up after a time would let those behind it through, and
readers, who count sequences, would take the hole for lost audio.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from pipeline.runtime.produce import SILENT, lost, producer_config
from pipeline.runtime.settings import Settings

MAX_MESSAGE_BYTES = 9 * 1024 * 1024  # above the 8 MiB that topics allow
QUEUE_KBYTES = 64 * 1024
POLL_SECONDS = 0.5
ROOM_SECONDS = 0.1  # between two looks at a full queue
SETTLE_POLL_SECONDS = 0.01

log = logging.getLogger("callscribe.worker")


class Outbox:
    """Writes records in order. ``put`` belongs to the event loop it was started on, acknowledgements to a thread."""

    def __init__(self, settings: Settings) -> None:
        self._producer = Producer(
            producer_config(settings)
            | {
                "linger.ms": round(settings.kafka.linger_seconds * 1000),
                "queue.buffering.max.kbytes": QUEUE_KBYTES,
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "socket.nagle.disable": True,
                "error_cb": self._hear,
            },
            logger=SILENT,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._last_error: int | None = None  # the code that was logged last
        self._answered: set[Burst] = set()  # of the thread
        self._thread = threading.Thread(target=self._listen, name="outbox", daemon=True)

    def start(self) -> None:
        """Listen for acknowledgements; call once, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def burst(self) -> Burst:
        """Return a new group of records that are confirmed together."""
        return Burst(self._producer, self._answered)

    async def settled(self, seconds: float) -> bool:
        """Wait until no record is on its way, ``seconds`` at most; return whether that is so."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while len(self._producer) and loop.time() < deadline:  # noqa: ASYNC110 - librdkafka has no event for it
            await asyncio.sleep(SETTLE_POLL_SECONDS)
        return not len(self._producer)

    def close(self) -> None:
        """Drop what is not acknowledged: the next worker does it again."""
        self._is_closed = True
        self._producer.purge()
        if self._thread.is_alive():
            self._thread.join(2 * POLL_SECONDS)

    def _hear(self, error: KafkaError) -> None:
        """Log that the broker cannot be written to; librdkafka goes on trying."""
        if error.code() != self._last_error:
            self._last_error = error.code()
            log.warning("writing to Kafka: %s", error.str())

    def _listen(self) -> None:
        while not self._is_closed:
            self._producer.poll(POLL_SECONDS)
            if self._answered:
                answered = list(self._answered)
                self._answered.clear()
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    assert self._loop is not None
                    self._loop.call_soon_threadsafe(_tell, answered)


class Burst:
    """Records on their way to the broker."""

    def __init__(self, producer: Producer, answered: set[Burst]) -> None:
        self._producer = producer
        self._answered = answered
        self._topic = ""
        self._sent = 0
        self._acknowledged = 0  # written by the outbox's thread alone
        self._error: KafkaError | None = None
        self._waiting: asyncio.Future[None] | None = None

    async def put(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        partition: int,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        """Hand over a record; waits while the queue is full. Raises NotReadyError or FailedError when one before it was lost."""
        self._topic = topic
        arguments: dict[str, Any] = {"headers": list(headers.items())} if headers else {}
        while True:
            self._raise_lost()
            try:
                self._producer.produce(
                    topic, key=key, value=value, partition=partition, on_delivery=self._answer, **arguments
                )
                break
            except BufferError:
                await asyncio.sleep(ROOM_SECONDS)
            except KafkaException as error:
                raise lost(topic, error.args[0]) from None
        self._sent += 1

    async def delivered(self) -> None:
        """Return when the broker has acknowledged every record. Raises NotReadyError or FailedError when one is lost."""
        if self._acknowledged < self._sent and self._error is None:
            self._waiting = asyncio.get_running_loop().create_future()
            self.tell()
            await self._waiting
        self._raise_lost()

    def tell(self) -> None:
        """Wake who waits, if there is nothing to wait for any more."""
        is_over = self._acknowledged >= self._sent or self._error is not None
        if is_over and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _answer(self, error: KafkaError | None, message: Any) -> None:
        self._acknowledged += 1
        self._error = self._error or error
        self._answered.add(self)

    def _raise_lost(self) -> None:
        if self._error is not None:
            raise lost(self._topic, self._error)


def _tell(answered: list[Burst]) -> None:
    for burst in answered:
        burst.tell()
