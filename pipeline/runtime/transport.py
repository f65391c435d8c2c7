"""Faust's Kafka consumer with fetches in batches.

Faust asks the broker for every record as it comes and gives each a pair of tasks of its own. With many live calls that is most of a
worker's time, and much of the broker's. Here the broker collects for some milliseconds, and what a fetch brought is delivered in
one go.
"""

from __future__ import annotations

import asyncio
from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer

MIN_FETCH_BYTES = 4 * 1024 * 1024  # in effect: wait for the time, not for the size
CHUNK = 64  # records delivered before other tasks get their turn


def batch_fetches(app: Any, *, wait_seconds: float) -> None:
    """Make the consumer of ``app`` collect what arrives within ``wait_seconds`` into one fetch; call before the app starts."""
    app.transport.Consumer = type("BatchingConsumer", (_BatchingConsumer,), {"wait_ms": round(wait_seconds * 1000)})


class _BatchingThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread that owns the aiokafka consumer."""

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        consumer = super()._create_consumer(loop)
        wait_ms = self.consumer.wait_ms
        if wait_ms:
            consumer._fetch_min_bytes = MIN_FETCH_BYTES
            consumer._fetch_max_wait_ms = wait_ms
        return consumer


class _BatchingConsumer(Consumer):  # type: ignore[misc]
    """Faust's consumer with the thread above, and one task per fetch where Faust has two per record."""

    wait_ms = 0

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _BatchingThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Read and deliver until the consumer or its fetcher stops, as `faust.transport.consumer.Consumer` does.

        A suspended flow (a rebalance) ends a delivery in its middle; what it left is read again from the committed offset.
        """
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                records = [record async for record in self.getmany(timeout=1.0)]
                await self.sleep(0)
                if records and not self.should_stop:
                    await self.wait_first(self._deliver(records), self.suspend_flow.wait())
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.transport.app.should_stop:
                raise

    async def _deliver(self, records: list[Any]) -> None:
        for count, (tp, message) in enumerate(records):
            if count % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            read = self._read_offset[tp]
            if read is None or message.offset >= read:
                if read and message.offset - read > 1 and self.app.topics.acks_enabled_for(message.topic):
                    await self._add_gap(tp, read + 1, message.offset)  # offsets that hold no records
                await self.callback(message)
                self._read_offset[tp] = message.offset
