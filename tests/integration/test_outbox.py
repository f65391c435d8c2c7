"""The outbox against a real broker: order, confirmation, and what happens when a record cannot be written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from confluent_kafka import Consumer, TopicPartition

from pipeline.core.errors import CallscribeError
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.settings import Settings
from tests.integration.conftest import Kafka
from topics import topic

pytestmark = pytest.mark.integration
NAME = "call.segments"


def written(settings: Settings, count: int) -> list[tuple[bytes, bytes | None, int | None]]:
    """Return the first ``count`` records of partition 1."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers(settings), "group.id": "outbox-test"})
    try:
        consumer.assign([TopicPartition(topic(NAME).full_name(settings.topics.prefix), 1, 0)])
        messages = consumer.consume(count, timeout=20)
    finally:
        consumer.close()
    return [(message.key(), message.value(), message.partition()) for message in messages]


def run(settings: Settings, write: Callable[[Outbox, str], Awaitable[None]]) -> None:
    """Run ``write`` with an outbox and the name of the topic."""

    async def work() -> None:
        outbox = Outbox(settings)
        outbox.start()
        try:
            await asyncio.wait_for(write(outbox, topic(NAME).full_name(settings.topics.prefix)), 60)
        finally:
            outbox.close()

    asyncio.run(work())


def test_a_burst_is_delivered_when_the_broker_has_all_of_it_in_order(kafka: Kafka) -> None:
    settings = kafka.ready()

    async def write(outbox: Outbox, name: str) -> None:
        await outbox.burst().delivered()  # of nothing
        first, second = outbox.burst(), outbox.burst()
        for number in range(300):
            await first.put(name, key=b"a", value=b"%d" % number, partition=1, headers={"kind": b"test"})
        await second.put(name, key=b"b", value=None, partition=1)
        await asyncio.gather(second.delivered(), first.delivered())
        assert await outbox.settled(5)

    run(settings, write)
    assert written(settings, 301) == [*((b"a", b"%d" % number, 1) for number in range(300)), (b"b", None, 1)]


@pytest.mark.parametrize(("partition", "size"), [(1, 10 * 1024 * 1024), (999, 10)])
def test_a_record_that_cannot_be_written_is_an_error_that_names_the_topic(
    kafka: Kafka, partition: int, size: int
) -> None:
    settings = kafka.ready()

    async def write(outbox: Outbox, name: str) -> None:
        burst = outbox.burst()
        await burst.put(name, key=b"a", value=bytes(size), partition=partition)
        await burst.delivered()

    with pytest.raises(CallscribeError, match=topic(NAME).full_name(settings.topics.prefix)):
        run(settings, write)
