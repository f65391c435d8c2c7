"""Reading topics without a consumer group: for commands that look, and leave no trace on the broker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.core.errors import NotReadyError
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.security import confluent_config
from pipeline.runtime.settings import Settings
from schemas.codec import Codec, Record
from schemas.registry import RegistryError

R = TypeVar("R", bound=Record)

LATEST = -1  # of the ListOffsets request (Kafka protocol guide): offset after the last record
METADATA_SECONDS = 10.0
POLL_SECONDS = 0.2
SILENT = 2  # syslog level of librdkafka's own lines on stderr; what matters comes as an error of ours


@contextmanager
def open_reader(settings: Settings, names: Sequence[str], *, from_beginning: bool) -> Iterator[Consumer]:
    """Give a consumer on all partitions of the topics ``names``, from their beginning or their present end.

    Raises NotReadyError when the broker cannot be reached or has no such topic.
    """
    consumer = open_consumer(
        settings,
        {
            "group.id": f"{settings.topics.prefix}.reader",  # librdkafka wants one; with assign() none is joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "log_level": SILENT,
        },
    )
    try:
        partitions = [found for name in names for found in partitions_of(consumer, name, settings)]
        if not from_beginning:
            partitions = _ends(consumer, partitions)
        consumer.assign(partitions)
        yield consumer
    finally:
        consumer.close()


def read_to_end(settings: Settings, name: str) -> Iterator[Message]:
    """Yield the records of topic ``name`` from its beginning to where it ended when reading began.

    Raises NotReadyError as `open_reader` does.
    """
    with open_reader(settings, [name], from_beginning=True) as consumer:
        ends = {end.partition: end.offset for end in _ends(consumer, consumer.assignment())}
        while ends:
            message = consumer.poll(POLL_SECONDS)
            if message is None:
                continue
            partition, error = message.partition(), message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    ends.pop(partition, None)
                elif error.fatal() or not error.retriable():
                    raise NotReadyError(f"topic {name}: {error.str()}")
                continue
            if message.offset() < ends.get(partition, 0):
                yield message
            if message.offset() + 1 >= ends.get(partition, 0):
                ends.pop(partition, None)


def open_consumer(settings: Settings, config: Mapping[str, object]) -> Consumer:
    """Return a consumer on the broker of ``settings``. Raises NotReadyError when librdkafka refuses its settings."""
    servers = bootstrap_servers(settings)
    try:
        return Consumer({**confluent_config(settings.kafka, servers), **config})
    except KafkaException as error:
        raise NotReadyError(f"Kafka at {servers}: {error.args[0].str()}") from error


def decode(codec: Codec, data: bytes | None, kind: type[R]) -> R:
    """Return the record of a value. Raises CodecError; NotReadyError when the schema registry cannot be asked."""
    try:
        return codec.decode(data, kind)
    except RegistryError as error:
        raise NotReadyError(str(error)) from error


def partitions_of(consumer: Consumer, name: str, settings: Settings) -> list[TopicPartition]:
    """Return all partitions of a topic, at their beginning. Raises NotReadyError."""
    try:
        topic = consumer.list_topics(name, timeout=METADATA_SECONDS).topics[name]
    except KafkaException as error:
        raise NotReadyError(f"Kafka at {bootstrap_servers(settings)}: {error.args[0].str()}") from error
    if topic.error is not None:
        hint = "; make it with: callscribe topics apply" if _is_unknown(topic.error) else ""
        raise NotReadyError(f"topic {name}: {topic.error.str()}{hint}")
    return [TopicPartition(name, partition, OFFSET_BEGINNING) for partition in sorted(topic.partitions)]


def _is_unknown(error: KafkaError) -> bool:
    return error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


def _ends(consumer: Consumer, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
    """Return the present ends of ``partitions``; a leader that is just being elected is waited for."""
    queries = [TopicPartition(one.topic, one.partition, LATEST) for one in partitions]
    deadline = time.monotonic() + METADATA_SECONDS
    while True:
        try:
            found: list[TopicPartition] = consumer.offsets_for_times(queries, timeout=METADATA_SECONDS)
            failed = next((one.error for one in found if one.error is not None), None)
        except KafkaException as error:
            failed = error.args[0]
        if failed is None:
            return found
        if time.monotonic() >= deadline:
            raise NotReadyError(f"topic {queries[0].topic}: {failed.str()}")
        time.sleep(POLL_SECONDS)
