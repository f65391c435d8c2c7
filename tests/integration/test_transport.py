"""The consumer under the stages against a real broker: positions, and what is read again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka import TopicPartition as Position

from pipeline.demo import assets
from pipeline.replay import Replay
from pipeline.runtime.attempts import Attempts
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.runtime.settings import Settings
from pipeline.runtime.transport import seek_to_committed
from schemas.codec import Codec
from schemas.records import CallAudio, LaneState
from tests.integration.conftest import Kafka
from tests.integration.feeds import HalfFed
from tests.integration.reading import committed, committed_offset, records_of, states_of
from tests.integration.system import clip, replayed, running, wait_for
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
SECONDS = 60.0


@pytest.mark.parametrize("offset", [0, 3])
def test_what_was_read_and_not_committed_comes_again_from_any_offset(kafka: Kafka, offset: int) -> None:
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
            await consumer.commit({place: offset})
            await seek_to_committed(consumer)
            again = await consumer.getone()
            return again.offset, await consumer.position(place)
        finally:
            await consumer.stop()

    assert asyncio.run(positions()) == (offset, offset + 1)


def test_nothing_behind_a_held_record_is_committed(kafka: Kafka, tmp_path: Path) -> None:
    """faust.md 2.1 c and d: of a group that has committed nothing yet, Faust commits past a held record when all behind it is done."""
    call = clip(assets.calls()[2], 14.0, tmp_path)
    expected = replayed(Replay(Settings()), call)
    settings = kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6)
    with running(settings) as system:
        feed = HalfFed(settings, call, "held")
        feed.first_half()
        held = len(records_of(settings, "call.audio"))  # somebody speaks: what is read of it is needed again
        system.feed([("behind", call)])
        assert system.transcript("behind") == expected
        needed = min(needed_offset(settings, "held", channel) for channel in (0, 1))
        assert needed < held
        wait_for(
            lambda: committed_offset(settings, "vad", "call.audio") == needed, SECONDS, "what is done is committed"
        )
        system.kill("vad")
        feed.rest()
        assert system.transcript("held") == expected
        assert committed_offset(settings, "vad", "call.audio") >= needed


def test_commits_keep_what_is_condemned_and_orderly_ends_are_no_deaths(kafka: Kafka, tmp_path: Path) -> None:
    call = clip(assets.calls()[2], 14.0, tmp_path)
    expected = replayed(Replay(Settings()), call)
    settings = kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6)
    feed = HalfFed(settings, call, "kept")
    with running(settings):
        feed.first_half()
    before = committed_offset(settings, "vad", "call.audio")
    feed.up_to(0.7)
    name = topic("call.audio").full_name(settings.topics.prefix)
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    producer.produce(name, key="nobody", value=b"kills", partition=0)
    assert producer.flush(10) == 0
    condemned = len(records_of(settings, "call.audio")) - 1
    kept = Attempts(condemned=(condemned,))
    wait_for(lambda: is_committed(settings, name, before, kept.to_text()), SECONDS, "the group is empty")
    for workers in (1, 2):
        with running(settings, workers=workers):
            wait_for(lambda: committed_offset(settings, "vad", "call.audio") > before, SECONDS, "vad goes on")
        offset, metadata = committed(settings, "vad", "call.audio")
        assert before < offset <= condemned
        assert Attempts.parse(metadata) == kept
    with running(settings) as system:
        feed.rest()
        assert system.transcript("kept") == expected
        end = len(records_of(settings, "call.audio"))
        wait_for(lambda: committed(settings, "vad", "call.audio") == (end, ""), SECONDS, "everything is committed")
    letters = {(one.stage, one.offset, one.reason) for one in read_dead_letters(settings)}
    assert letters == {("vad", condemned, "CondemnedError")}


def is_committed(settings: Settings, name: str, offset: int, metadata: str) -> bool:
    """Commit for vad's group, which takes that while it has no member."""
    servers = {"bootstrap.servers": settings.kafka.bootstrap_servers}
    consumer = Consumer({**servers, "group.id": f"{settings.topics.prefix}.vad"})
    try:
        consumer.commit(offsets=[Position(name, 0, offset, metadata=metadata)], asynchronous=False)
    except KafkaException:
        return False
    finally:
        consumer.close()
    return True


def needed_offset(settings: Settings, call_id: str, channel: int) -> int:
    """Return the first offset of call.audio that vad needs again of a lane."""
    if states := states_of(settings, call_id, channel):
        return Codec().decode(states[-1], LaneState).needed_offset
    return next(
        message.offset()
        for message in records_of(settings, "call.audio")
        if (record := Codec().decode(message.value(), CallAudio)).call_id == call_id and record.channel == channel
    )
