"""What a run asks of the broker: poison in, and how the stages get on. This module and `members` alone know Kafka here."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import suppress

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

import topics
from pipeline.chaos.members import input_of
from pipeline.chaos.recovery import Place
from pipeline.core.errors import FailedError, NotReadyError
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.dead_letters import Coordinates
from pipeline.runtime.produce import SILENT
from pipeline.runtime.security import confluent_config
from pipeline.runtime.settings import Settings
from schemas import records
from schemas.codec import Codec, CodecError
from schemas.records import Audio, Gap

LOOK_SECONDS = 0.25
TIMEOUT_SECONDS = 2.0
POISON_SECONDS = 60.0  # to be acknowledged, by a broker that may be away
OUTPUTS = {"vad": "call.speech", "asr": "call.annotations", "assemble": "call.segments"}
COMMITTED = ("diarize", "sink")  # stages whose outputs are rare, or no topic: their commits


class Poisoner:
    """Writes what no stage can use into the topics of calls. ``written`` are the places of what the broker has acknowledged."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topics.prefix
        self._producer = Producer(
            confluent_config(settings.kafka, bootstrap_servers(settings))
            | {
                "partitioner": "murmur2_random",
                "message.max.bytes": 8 * 1024 * 1024,
                "delivery.timeout.ms": int(POISON_SECONDS * 1000),
            },
            logger=SILENT,
        )
        self._codec = Codec()
        self.written: set[Coordinates] = set()

    def poison(self, topic: str, what: str, call_id: str) -> None:
        """Write a record of the kind ``what`` (`pipeline.chaos.schedule.POISONS`) with the key of a call.

        Returns when it is acknowledged. Raises NotReadyError when it is not in time, FailedError when the broker refuses it.
        """
        value = self._value(topic, what, call_id)
        answers: list[KafkaError | None] = []

        def hear(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self.written.add(Coordinates(message.topic(), message.partition(), message.offset()))
            answers.append(error)

        try:
            name = topics.topic(topic).full_name(self._prefix)
            self._producer.produce(name, key=call_id.encode(), value=value, on_delivery=hear)
        except (BufferError, KafkaException) as error:
            raise FailedError(f"topic {topic}: the poison was not taken ({type(error).__name__})") from None
        deadline = time.monotonic() + POISON_SECONDS + TIMEOUT_SECONDS
        while not answers and time.monotonic() < deadline:
            self._producer.poll(LOOK_SECONDS)
        if not answers:
            raise NotReadyError(f"topic {topic}: the poison was not acknowledged")
        if answers[0] is not None:
            raise FailedError(f"topic {topic}: the poison was not acknowledged: {answers[0].str()}")

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.purge()

    def _value(self, topic: str, what: str, call_id: str) -> bytes:
        if what == "no_avro":
            return b"\xff no avro"
        if what == "unknown_schema":
            return b"\0\0\x0f\xff\xff no schema"
        if what == "five_megabytes":
            return bytes(5 * 1024 * 1024)
        envelope = getattr(records, topics.topic(topic).schema)
        stage = {"stage": "asr"} if topic == "call.annotations" else {}
        wrong = what == "wrong_channel"
        extra = {"audio": Audio(encoding="mulaw", data=b"\xff" * 800)} if topic == "call.audio" else {}
        record = envelope(
            call_id=call_id,
            kind="audio" if topic == "call.audio" else "gap",
            channel=999 if wrong else 0,
            sequence=0 if wrong else 2**50,
            start_sample=0 if wrong else 2**60,
            sample_rate_hz=8000,
            capture_time_ms=0,
            gap=None if topic == "call.audio" else Gap(end_sample=8_000 if wrong else 2**61, reason="poison"),
            **({"feed_epoch": 2**30} if topic == "call.audio" else {}),
            **stage,
            **extra,
        )
        return self._codec.encode(record)


class Progress:
    """When every stage got on, by partition, seen from outside in a thread of its own.

    Moments are seconds of the wall clock: of the broker's stamp where a stage writes, of our look where its commits are looked
    at. librdkafka's admin client is not used: it aborts the process when a request times out while its broker is away.
    """

    def __init__(self, settings: Settings) -> None:
        prefix, count = settings.topics.prefix, settings.partitions
        config = confluent_config(settings.kafka, bootstrap_servers(settings)) | {
            "enable.auto.commit": False,
            "log_level": 2,
        }
        self._codec = Codec()
        self._writers = {topics.topic(name).full_name(prefix): stage for stage, name in OUTPUTS.items()}
        self._outputs = Consumer(config | {"group.id": f"{prefix}.reader"}, logger=SILENT)
        self._outputs.assign([TopicPartition(name, at, OFFSET_END) for name in self._writers for at in range(count)])
        self._groups = {
            stage: (
                Consumer(config | {"group.id": f"{prefix}.{stage}"}, logger=SILENT),
                [TopicPartition(input_of(stage).full_name(prefix), at) for at in range(count)],
            )
            for stage in COMMITTED
        }
        self._committed: dict[Place, int] = {}
        self.moves: dict[Place, list[float]] = defaultdict(list)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; ``moves`` is complete then."""
        self._stop.set()
        self._thread.join(10 * TIMEOUT_SECONDS)

    def _watch(self) -> None:
        due = 0.0
        while not self._stop.is_set():
            for message in self._outputs.consume(1000, timeout=LOOK_SECONDS):
                if message.error() is None and self._is_output(message):
                    stage = self._writers[message.topic()]
                    self.moves[stage, message.partition()].append(message.timestamp()[1] / 1000)
            if time.monotonic() >= due:
                self._look_at_groups()
                due = time.monotonic() + LOOK_SECONDS
        for consumer in (self._outputs, *(consumer for consumer, _ in self._groups.values())):
            consumer.close()

    def _is_output(self, message: Message) -> bool:
        """Return whether the stage that counts has written this: not another one, and not a poisoner."""
        stage = self._writers[message.topic()]
        try:
            record = self._codec.decode(message.value(), getattr(records, topics.topic(OUTPUTS[stage]).schema))
        except CodecError:
            return False
        return record.kind != "gap" and (stage != "asr" or record.stage == stage)

    def _look_at_groups(self) -> None:
        for stage, (consumer, places) in self._groups.items():
            with suppress(KafkaException):  # the broker is away
                for at in consumer.committed(places, timeout=TIMEOUT_SECONDS):
                    if at.offset > self._committed.get((stage, at.partition), -1):
                        self.moves[stage, at.partition].append(time.time())
                    self._committed[stage, at.partition] = at.offset
