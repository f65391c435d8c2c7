"""Where calls stand: the compacted topic call.state, read and written by the feeds."""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiokafka.partitioner import murmur2
from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.core.errors import NotReadyError
from pipeline.core.ids import CALL_CHANNEL
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.produce import AudioProducer, Delivery
from pipeline.runtime.provisioning import schema_source
from pipeline.runtime.read import partitions_of
from pipeline.runtime.security import confluent_config
from pipeline.runtime.settings import Settings
from schemas.codec import Codec, CodecError
from schemas.records import CallState
from topics import topic

READ_SECONDS = 30.0
POLL_SECONDS = 0.5


def partition_of(call_id: str, partitions: int) -> int:
    """Return the partition a call's records are in: Kafka's default partitioner, murmur2 of the key.

    >>> partition_of("c1", 6) == partition_of("c1", 6) < 6
    True
    """
    return int(murmur2(call_id.encode()) & 0x7FFFFFFF) % partitions


def read_state(settings: Settings, call_id: str, *, codec: Codec | None = None) -> CallState | None:
    """Return the latest state of a call, None when there is none.

    Reads the one partition of the call, from its beginning to where it ends now. Raises NotReadyError when the broker
    or the topic is not there, or reading takes longer than 30 s.
    """
    codec = codec or Codec(schema_source(settings))
    name = topic("call.state").full_name(settings.topics.prefix)
    config = confluent_config(settings.kafka, bootstrap_servers(settings)) | {
        "group.id": f"{settings.topics.prefix}.reader",  # librdkafka wants one; with assign() none is joined
        "enable.auto.commit": False,
    }
    consumer = Consumer(config)
    deadline = time.monotonic() + READ_SECONDS
    try:
        count = len(partitions_of(consumer, name, settings))
        partition = TopicPartition(name, partition_of(call_id, count))
        first, end = consumer.get_watermark_offsets(partition, timeout=READ_SECONDS)
        partition.offset = first
        consumer.assign([partition])
        return _latest(consumer, call_id, position=first, end=end, deadline=deadline, codec=codec)
    except KafkaException as error:
        raise NotReadyError(f"topic {name}: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _latest(
    consumer: Consumer, call_id: str, *, position: int, end: int, deadline: float, codec: Codec
) -> CallState | None:
    key, found = call_id.encode(), None
    while position < end:
        if time.monotonic() > deadline:
            raise NotReadyError(f"topic call.state: could not be read to its end within {READ_SECONDS:.0f} s")
        message = consumer.poll(POLL_SECONDS)
        if message is None:
            # Compaction may leave no record at the end: the client's position moves on all the same.
            position = max(position, consumer.position(consumer.assignment())[0].offset)
            continue
        if message.error() is not None:
            if not message.error().retriable():
                raise KafkaException(message.error())
            continue
        position = message.offset() + 1
        if message.key() == key:
            try:
                found = codec.decode(message.value(), CallState) if message.value() else None
            except CodecError as error:
                raise NotReadyError(f"topic call.state: the state of call {call_id} is unreadable: {error}") from None
    return found


class CallOutlet:
    """Where feeds put calls: audio and call states on one broker. One object serves every thread of a program."""

    def __init__(self, settings: Settings) -> None:
        """Raise NotReadyError within about 10 s when the broker does not answer or lacks a topic."""
        self._settings = settings
        self._producer = AudioProducer(settings)

    def delivery(self) -> Delivery:
        """Return where the records of one call go."""
        return self._producer.delivery()

    def take(self, call_id: str, *, tenant: str | None, is_new: bool) -> tuple[int, int] | None:
        """Take a call for a feed by writing that it is live under the next epoch.

        Returns the epoch and the sequence control records go on with (0 for a call that was not interrupted); None when
        the call is complete, and then nothing is written. A call that ``is_new`` is not looked up. Raises NotReadyError
        or FailedError.
        """
        known = None if is_new else read_state(self._settings, call_id)
        if known is not None and known.state == "complete":
            return None
        epoch = 1 if known is None else known.feed_epoch + 1
        next_sequence = {} if known is None else known.next_sequence
        self._write(call_id, "live", epoch, next_sequence, tenant)
        return epoch, next_sequence.get(str(CALL_CHANNEL), 0)

    def leave(
        self, call_id: str, *, state: str, feed_epoch: int, next_sequence: Mapping[str, int], tenant: str | None
    ) -> None:
        """Say that the call is complete or interrupted. Raises NotReadyError or FailedError."""
        self._write(call_id, state, feed_epoch, next_sequence, tenant)

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close()

    def _write(
        self, call_id: str, state: str, epoch: int, next_sequence: Mapping[str, int], tenant: str | None
    ) -> None:
        record = CallState(
            call_id=call_id,
            state=state,
            feed_epoch=epoch,
            next_sequence=dict(next_sequence),
            tenant=tenant,
            time_ms=time.time_ns() // 1_000_000,
        )
        self._producer.write_state(record)
