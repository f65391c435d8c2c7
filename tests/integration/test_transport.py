"""The consumer under the stages against a real broker: positions, and what is read again."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer

from pipeline.runtime.transport import seek_to_committed
from tests.integration.conftest import Kafka
from topics import topic

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("committed", [0, 3])
def test_what_was_read_and_not_committed_comes_again_from_any_offset(kafka: Kafka, committed: int) -> None:
    """A worker drops what it had fetched when a rebalance completes; aiokafka by itself would not go back to offset 0."""
    settings = kafka.ready(topics__partitions=1)
    name = topic("call.audio").full_name(settings.topics.prefix)
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for number in range(5):
        producer.produce(name, value=bytes([number]), partition=0)
    assert producer.flush(10) == 0

    async def positions() -> tuple[int, int]:
        consumer = AIOKafkaConsumer(
            name,
            bootstrap_servers=settings.kafka.bootstrap_servers,
            group_id=f"{settings.topics.prefix}.positions",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            place = TopicPartition(name, 0)
            while await consumer.position(place) < 5:
                await consumer.getmany(timeout_ms=1000)
            await consumer.commit({place: committed})
            await seek_to_committed(consumer)
            again = await consumer.getone()
            return again.offset, await consumer.position(place)
        finally:
            await consumer.stop()

    assert asyncio.run(positions()) == (committed, committed + 1)
