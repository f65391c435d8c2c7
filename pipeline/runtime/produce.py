"""Writing call.audio: an idempotent producer with a bounded queue, and an acknowledgement for every record."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from pipeline.core.errors import CallscribeError, FailedError, NotReadyError
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.provisioning import schema_source
from pipeline.runtime.security import confluent_config
from pipeline.runtime.settings import Settings
from schemas.codec import Codec, Record
from schemas.records import CallAudio, CallState
from topics import topic

CONNECT_SECONDS = 10.0
DELIVERY_SECONDS = 300.0  # how long a feed waits for a broker that is away; `queue_max_bytes` bounds what waits
POLL_SECONDS = 0.1

# librdkafka's own log lines repeat what comes as an exception; they would break into progress and --json output.
SILENT = logging.getLogger(f"{__name__}.librdkafka")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False

AWAY = frozenset(
    (
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._AUTHENTICATION,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
    )
)


def producer_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration of every producer (librdkafka, CONFIGURATION.md), with the bounds of ingest.

    ``murmur2_random`` puts a key where Faust and the Java clients put it. Nothing is compressed: of the codecs that
    Faust's client reads without a further library there is only gzip, which saves 40 % of speech at 16 kHz for about
    4 ms of processor time per second of audio.
    """
    return (
        confluent_config(settings.kafka, bootstrap_servers(settings))
        | {
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "compression.type": "none",
            "queue.buffering.max.kbytes": settings.ingest.queue_max_bytes // 1024,
            "queue.buffering.max.messages": 1_000_000,  # the bytes are the bound
            "delivery.timeout.ms": 0,  # for ever: behind a record that is given up the next ones would go through, and leave a hole
            "request.timeout.ms": int(settings.kafka.request_timeout_seconds * 1000),
        }
    )


class AudioProducer:
    """Writes calls to the broker; one object serves every thread of a program."""

    def __init__(self, settings: Settings, *, codec: Codec | None = None) -> None:
        """Raise NotReadyError within about 10 s when the broker does not answer or lacks a topic."""
        self._audio = topic("call.audio").full_name(settings.topics.prefix)
        self._state = topic("call.state").full_name(settings.topics.prefix)
        self._codec = codec or Codec(schema_source(settings))
        config = producer_config(settings)
        self._servers: str = config["bootstrap.servers"]
        self._last_error: KafkaError | None = None
        self._producer = Producer(config | {"error_cb": self._hear}, logger=SILENT)
        self._silence = _Silence(self._producer)
        for name in (self._audio, self._state):
            self._require(name)

    def delivery(self) -> Delivery:
        """Return where the records of one call go."""
        return Delivery(self._producer, self._audio, self._codec, self._silence)

    def write_state(self, state: CallState) -> int:
        """Write where a call stands; returns its offset when it is acknowledged. Raises NotReadyError or FailedError."""
        delivery = Delivery(self._producer, self._state, self._codec, self._silence)
        delivery.put(state.call_id, state)
        delivery.wait()
        return delivery.last_offset

    def close(self) -> None:
        """Let go of the broker; what was not waited for is dropped."""
        self._producer.purge()
        self._producer.flush(1.0)

    def _hear(self, error: KafkaError) -> None:
        self._last_error = error

    def _require(self, name: str) -> None:
        try:
            found = self._producer.list_topics(name, timeout=CONNECT_SECONDS).topics[name]
        except KafkaException as error:
            cause = self._last_error or error.args[0]
            raise NotReadyError(f"Kafka at {self._servers} does not answer: {cause.str()}") from None
        if found.error is not None:
            raise NotReadyError(f"topic {name}: {found.error.str()}; make it with: callscribe topics apply")


class _Silence:
    """How long the broker has acknowledged nothing of what waits. After `DELIVERY_SECONDS` everything is given up, in one go."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._lock = threading.Lock()
        self._waiting = 0  # the producer's length counts its events, too: an idle feed has some behind an outage
        self._heard = time.monotonic()
        self.is_over = False

    def begin(self) -> None:
        """Note that a record waits."""
        with self._lock:
            if not self._waiting:
                self._heard = time.monotonic()
            self._waiting += 1

    def hear(self) -> None:
        """Note that a record waits no longer."""
        with self._lock:
            self._waiting -= 1
            self._heard = time.monotonic()

    def check(self, topic: str) -> None:
        """Raise NotReadyError once the broker was silent for too long; nothing of what waits is written then."""
        with self._lock:
            silent = time.monotonic() - self._heard if self._waiting else 0.0
            is_new = not self.is_over and silent > DELIVERY_SECONDS
            self.is_over = self.is_over or is_new
        if is_new:
            self._producer.purge()
        if self.is_over:
            raise NotReadyError(f"topic {topic}: the broker has acknowledged nothing for {DELIVERY_SECONDS:.0f} s")


class Delivery:
    """The records of one call on their way. Behind a record that is lost nothing is written any more."""

    def __init__(self, producer: Producer, name: str, codec: Codec, silence: _Silence) -> None:
        self._producer = producer
        self._topic = name
        self._codec = codec
        self._silence = silence
        self._lock = threading.Lock()
        self._pending = 0
        self._error: KafkaError | None = None
        self.last_offset = -1  # of the last record that was acknowledged

    def send(self, record: CallAudio) -> None:
        """Hand over a record; waits while the queue is full.

        Raises NotReadyError or FailedError, naming the topic and the broker's error, once an earlier record is lost.
        """
        self.put(record.call_id, record, headers=[("kind", record.kind.encode())])

    def put(self, key: str, record: Record, *, headers: list[tuple[str, bytes]] | None = None) -> None:
        """Hand over any record of this topic, as `send` does."""
        value = self._codec.encode(record)
        with self._lock:
            self._pending += 1
        self._silence.begin()
        try:
            self._hand_over(key.encode(), value, headers)
        except BaseException:
            self._silence.hear()
            raise
        self._producer.poll(0)

    def _hand_over(self, key: bytes, value: bytes, headers: list[tuple[str, bytes]] | None) -> None:
        while True:
            self._raise_lost()
            try:
                self._producer.produce(self._topic, key=key, value=value, headers=headers, on_delivery=self._delivered)
                return
            except BufferError:
                self._producer.poll(POLL_SECONDS)
            except KafkaException as error:
                raise lost(self._topic, error.args[0]) from None

    def wait(self) -> None:
        """Return when every record is acknowledged. Raises NotReadyError or FailedError when one is lost."""
        while self._pending:
            self._raise_lost()
            self._producer.poll(POLL_SECONDS)
        self._raise_lost()

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        self._silence.hear()
        with self._lock:
            self._pending -= 1
            self._error = self._error or error
            if error is None:
                self.last_offset = message.offset()

    def _raise_lost(self) -> None:
        self._silence.check(self._topic)
        if self._error is not None:
            raise lost(self._topic, self._error)


def lost(name: str, error: KafkaError) -> CallscribeError:
    """Return the error of a record for topic ``name`` that was not acknowledged."""
    kind = NotReadyError if error.code() in AWAY else FailedError
    return kind(f"topic {name}: a record was not acknowledged: {error.str()}")
