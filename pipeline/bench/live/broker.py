"""What a run asks of the broker itself: encoded records in, how far the stages are, what the topics hold.

The only module of the benchmark that knows Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

import topics
from pipeline.core.errors import FailedError, NotReadyError
from pipeline.runtime.broker import EmbeddedBroker, bootstrap_servers
from pipeline.runtime.produce import producer_config
from pipeline.runtime.security import confluent_config
from pipeline.runtime.settings import Settings
from schemas import records
from schemas.codec import Codec, CodecError

STAGES = ("vad", "asr", "diarize", "assemble", "sink")
STAMPED = ("call.audio", "call.speech", "call.annotations", "call.segments")
TIMEOUT_SECONDS = 8.0
READ_SECONDS = 2.0  # for the one record of every partition that is behind
POLL_SECONDS = 0.1
FETCH_BYTES = 16 * 1024  # a partition: the first record is wanted, and the broker gives at least that

Place = tuple[str, int, int]  # topic, partition, offset


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLag:
    """How far a stage is behind its input: records not committed, and the age of the oldest of them in seconds.

    Age is counted from the capture of the record's first sample. A record counts until nothing depends on it any more: the
    speech of an open utterance is held back to its end.
    """

    lag_records: int
    lag_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSize:
    """What a topic holds: records ever written, and bytes of its log files, batches and all."""

    records: int
    log_bytes: int


class EncodedProducer:
    """Writes encoded records to call.audio with the producer that ingest uses. Raises NotReadyError without a broker."""

    def __init__(self, settings: Settings) -> None:
        self._topic = topics.topic("call.audio").full_name(settings.topics.prefix)
        self._producer = Producer(producer_config(settings) | {"delivery.report.only.error": True})
        self._error: KafkaError | None = None
        try:
            self._producer.list_topics(self._topic, timeout=TIMEOUT_SECONDS)
        except KafkaException as error:
            raise NotReadyError(f"Kafka: {error.args[0].str()}") from None

    def put(self, call_id: bytes, value: bytes, kind: bytes) -> None:
        """Hand over a record; waits while the queue is full. Raises FailedError once an earlier one is lost."""
        self._raise_lost()
        while True:
            try:
                self._producer.produce(
                    self._topic, key=call_id, value=value, headers=[("kind", kind)], on_delivery=self._hear
                )
                return
            except BufferError:
                self._producer.poll(POLL_SECONDS)
                self._raise_lost()

    def serve(self) -> None:
        """Take note of what was lost."""
        self._producer.poll(0)

    def wait(self) -> None:
        """Return when every record is acknowledged. Raises FailedError when one is lost."""
        while self._producer.flush(POLL_SECONDS):
            self._raise_lost()
        self._raise_lost()

    def _hear(self, error: KafkaError | None, _: object) -> None:
        self._error = self._error or error

    def _raise_lost(self) -> None:
        if self._error is not None:
            raise FailedError(f"topic {self._topic}: a record was not acknowledged: {self._error.str()}")


class BrokerProbe:
    """Looks at the broker of a run from outside, a few requests at a time. Use from one thread."""

    def __init__(self, settings: Settings, codec: Codec | None = None) -> None:
        self._settings = settings
        self._codec = codec or Codec()
        config = confluent_config(settings.kafka, bootstrap_servers(settings)) | {"log_level": 2}
        self._admin = AdminClient(config | {"socket.timeout.ms": 5000})
        self._consumer = Consumer(
            config
            | {
                "group.id": f"{settings.topics.prefix}.reader",  # librdkafka wants one; with assign() none is joined
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
                "fetch.message.max.bytes": FETCH_BYTES,
            }
        )

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def stamp_on_append(self) -> None:
        """Let the broker stamp the records of calls when it appends them. Raises NotReadyError.

        Otherwise the time of a record is the clock of the producer that made it, before batching and sending.
        """
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                topics.topic(name).full_name(self._settings.topics.prefix),
                incremental_configs=[
                    ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
                ],
            )
            for name in STAMPED
        ]
        try:
            changed = self._admin.incremental_alter_configs(resources, request_timeout=TIMEOUT_SECONDS)
            for future in changed.values():
                future.result()
        except KafkaException as error:
            raise NotReadyError(f"Kafka: {error.args[0].str()}") from None

    def lags(self) -> dict[str, StageLag]:
        """Return how far every stage is behind. Raises NotReadyError when the broker does not answer in time."""
        prefix = self._settings.topics.prefix
        inputs = {stage: _input_of(stage).full_name(prefix) for stage in STAGES}
        ends = self._ends(set(inputs.values()))
        behind: dict[str, list[Place]] = {}
        lag_records = {}
        for stage, name in inputs.items():
            done = self._committed(f"{prefix}.{stage}")
            open_at = {
                (topic, partition): (done.get((topic, partition), 0), end)
                for (topic, partition), end in ends.items()
                if topic == name
            }
            lag_records[stage] = sum(end - at for at, end in open_at.values())
            behind[stage] = [(*place, at) for place, (at, end) in open_at.items() if at < end]
        captured = self._capture_times({place for places in behind.values() for place in places})
        now = time.time()
        return {
            stage: StageLag(
                lag_records=lag_records[stage],
                lag_seconds=round(
                    max([now - captured[place] for place in places if place in captured], default=0.0), 3
                ),
            )
            for stage, places in behind.items()
        }

    def sizes(self) -> dict[str, TopicSize]:
        """Return by declared name what every topic holds. Raises NotReadyError."""
        names = {topic.full_name(self._settings.topics.prefix): topic.name for topic in topics.load()}
        counts = dict.fromkeys(names.values(), 0)
        for (full_name, _), end in self._ends(names).items():
            counts[names[full_name]] += end
        data = EmbeddedBroker(self._settings).status().data
        return {
            name: TopicSize(records=counts[name], log_bytes=_log_bytes(data, full_name))
            for full_name, name in names.items()
        }

    def _ends(self, names: Iterable[str]) -> dict[tuple[str, int], int]:
        wanted = [TopicPartition(name, index) for name in names for index in range(self._settings.partitions)]
        try:
            asked = self._admin.list_offsets(
                {one: OffsetSpec.latest() for one in wanted}, request_timeout=TIMEOUT_SECONDS
            )
            return {(at.topic, at.partition): future.result().offset for at, future in asked.items()}
        except KafkaException as error:
            raise NotReadyError(f"Kafka: {error.args[0].str()}") from None

    def _committed(self, group: str) -> dict[tuple[str, int], int]:
        try:
            asked = self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=TIMEOUT_SECONDS
            )
            found = asked[group].result().topic_partitions
        except KafkaException as error:
            raise NotReadyError(f"Kafka: {error.args[0].str()}") from None
        return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}

    def _capture_times(self, places: set[Place]) -> dict[Place, float]:
        """Return when the records at ``places`` were captured, in seconds since the epoch; what is not read in time is left out."""
        found: dict[Place, float] = {}
        for group in _rounds(places):
            self._consumer.assign([TopicPartition(*place) for place in group])
            deadline = time.monotonic() + READ_SECONDS
            missing = {place[:2]: place for place in group}
            while missing and time.monotonic() < deadline:
                message = self._consumer.poll(POLL_SECONDS)
                if message is None or message.error() is not None:
                    continue
                place = missing.pop((message.topic(), message.partition()), None)
                if place is not None:
                    with suppress(CodecError):
                        found[place] = self._captured(message.topic(), message.value())
            self._consumer.unassign()
        return found

    def _captured(self, full_name: str, value: bytes) -> float:
        prefix = self._settings.topics.prefix
        schema = next(topic.schema for topic in topics.load() if topic.full_name(prefix) == full_name)
        return float(self._codec.decode(value, getattr(records, schema)).capture_time_ms) / 1000


def _input_of(stage: str) -> topics.Topic:
    """Return the topic a stage reads."""
    return next(topic for topic in topics.load() if not topic.changelog_of and stage in topic.consumers)


def _rounds(places: set[Place]) -> Iterator[list[Place]]:
    """Yield ``places`` in groups that hold every partition once: two groups may be at different offsets of one."""
    waiting = sorted(places)
    while waiting:
        group: Mapping[tuple[str, int], Place] = {place[:2]: place for place in waiting}
        yield list(group.values())
        waiting = [place for place in waiting if place not in group.values()]


def _log_bytes(data: Path, full_name: str) -> int:
    """Return the size of a topic's log files on all nodes of an embedded broker."""
    total = 0
    for path in data.glob(f"node-*/{full_name}-*/*.log"):
        with suppress(FileNotFoundError):  # a segment that was just removed
            total += path.stat().st_size
    return total
