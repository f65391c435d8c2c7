"""How far each stage's consumer group is behind its input topic."""

from __future__ import annotations

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

import topics
from pipeline.core.errors import NotReadyError
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.security import confluent_config
from pipeline.runtime.settings import Settings

TIMEOUT_SECONDS = 8.0


def stage_lags(settings: Settings) -> dict[str, int]:
    """Return, by stage, the records of its input topic that its group has not committed yet.

    Raises NotReadyError when the broker does not answer or the topics are not there.
    """
    client = AdminClient({**confluent_config(settings.kafka, bootstrap_servers(settings)), "socket.timeout.ms": 5000})
    prefix = settings.topics.prefix
    inputs = {
        consumer: topic.full_name(prefix)
        for topic in topics.load()
        if not topic.changelog_of
        for consumer in topic.consumers
    }
    inputs = {stage: inputs[stage] for stage in ("vad", "asr", "diarize", "assemble", "sink")}
    try:
        partitions = [
            TopicPartition(name, index) for name in set(inputs.values()) for index in range(settings.partitions)
        ]
        asked = client.list_offsets(
            {partition: OffsetSpec.latest() for partition in partitions}, request_timeout=TIMEOUT_SECONDS
        )
        ends = {(at.topic, at.partition): future.result().offset for at, future in asked.items()}
        return {stage: _lag(client, f"{prefix}.{stage}", name, ends) for stage, name in inputs.items()}
    except KafkaException as error:
        raise NotReadyError(f"Kafka: {error.args[0].str()}") from None


def _lag(client: AdminClient, group: str, name: str, ends: dict[tuple[str, int], int]) -> int:
    request = ConsumerGroupTopicPartitions(group)
    committed = (
        client.list_consumer_group_offsets([request], request_timeout=TIMEOUT_SECONDS)[group].result().topic_partitions
    )
    done = {(at.topic, at.partition): at.offset for at in committed if at.offset >= 0}
    return sum(end - done.get((topic, partition), 0) for (topic, partition), end in ends.items() if topic == name)
