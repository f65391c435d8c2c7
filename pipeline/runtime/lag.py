"""How far each stage's consumer group is behind its input topic, and what keeps it from getting on.

Asked with consumers: librdkafka's admin client aborts the process when a request times out while the broker is away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import topics
from pipeline.core.errors import NotReadyError
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.produce import SILENT
from pipeline.runtime.security import confluent_config
from pipeline.runtime.settings import Settings

STAGES = ("vad", "asr", "diarize", "assemble", "sink")
TIMEOUT_SECONDS = 8.0
READ_SECONDS = 2.0  # for the one record of every partition that is behind
FETCH_BYTES = 16 * 1024  # a partition: the first record is wanted, and the broker gives at least that


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLag:
    """A stage behind its input: records not committed, and how long the oldest of them has been on the broker.

    ``records`` is None where the topic is missing. ``problem`` names what somebody has to do something about.
    """

    records: int | None
    seconds: float | None
    problem: str | None = None


def stage_lags(settings: Settings) -> dict[str, StageLag]:
    """Return how far every stage is behind. Raises NotReadyError when the broker does not answer."""
    config = _config(settings)
    try:
        return {stage: _lag(config, settings, stage) for stage in STAGES}
    except KafkaException as error:
        raise NotReadyError(f"Kafka: {error.args[0].str()}") from None


def missing_topics(settings: Settings) -> list[str]:
    """Return the names of declared topics that the broker has not. Raises NotReadyError when it does not answer."""
    names = [topic.full_name(settings.topics.prefix) for topic in topics.load()]
    try:
        with closing(
            Consumer({**_config(settings), "group.id": f"{settings.topics.prefix}.reader"}, logger=SILENT)
        ) as consumer:
            there = consumer.list_topics(timeout=TIMEOUT_SECONDS).topics
    except KafkaException as error:
        raise NotReadyError(f"Kafka: {error.args[0].str()}") from None
    return [name for name in names if name not in there]


def _config(settings: Settings) -> dict[str, object]:
    return confluent_config(settings.kafka, bootstrap_servers(settings)) | {
        "enable.auto.commit": False,
        "fetch.message.max.bytes": FETCH_BYTES,
        "socket.timeout.ms": 5000,
    }


def input_of(stage: str) -> topics.Topic:
    """Return the topic a stage reads."""
    return next(topic for topic in topics.load() if not topic.changelog_of and stage in topic.consumers)


def _lag(config: Mapping[str, object], settings: Settings, stage: str) -> StageLag:
    topic = input_of(stage)
    name = topic.full_name(settings.topics.prefix)
    # The group of the stage, of which this never becomes a member.
    consumer = Consumer({**config, "group.id": f"{settings.topics.prefix}.{stage}"}, logger=SILENT)
    with closing(consumer):
        found = consumer.list_topics(name, timeout=TIMEOUT_SECONDS).topics[name]
        if found.error is not None:
            if found.error.code() not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                raise KafkaException(found.error)
            return StageLag(records=None, seconds=None, problem=missing(name))
        behind = []
        records = 0
        for at in consumer.committed([TopicPartition(name, number) for number in found.partitions], TIMEOUT_SECONDS):
            first, end = consumer.get_watermark_offsets(at, timeout=TIMEOUT_SECONDS)
            at.offset = max(first, at.offset)
            if at.offset < end:
                records += end - at.offset
                behind.append(at)
        seconds = _oldest(consumer, behind)
    return StageLag(records=records, seconds=seconds, problem=_near_retention(stage, topic, seconds))


def _oldest(consumer: Consumer, behind: list[TopicPartition]) -> float | None:
    """Return the age of the oldest record at the given places, 0 where there are none, None where none is read in time."""
    if not behind:
        return 0.0
    consumer.assign(behind)
    missing = {at.partition for at in behind}
    oldest: int | None = None
    deadline = time.monotonic() + READ_SECONDS
    while missing and time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is None or message.error() is not None or message.partition() not in missing:
            continue
        missing.discard(message.partition())
        with suppress(TypeError, IndexError):
            stamp = message.timestamp()[1]
            oldest = stamp if oldest is None else min(oldest, stamp)
    return None if oldest is None else round(max(0.0, time.time() - oldest / 1000), 3)


def missing(name: str) -> str:
    """Return what status says of a topic that is not there."""
    return f"topic {name} is missing: callscribe topics apply"


def _near_retention(stage: str, topic: topics.Topic, seconds: float | None) -> str | None:
    if seconds is None or topic.retention_ms < 0 or seconds < topic.retention_ms / 2000:
        return None
    hours, kept = seconds / 3600, topic.retention_ms / 3_600_000
    return f"stage {stage} is {hours:.1f} h behind, and {topic.name} keeps records for {kept:g} h: what is older will be a gap"
