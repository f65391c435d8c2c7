"""Dead letters: records that could not be used, kept with where they came from and why.

A dead letter is named by the coordinates of the record it is about, ``topic/partition/offset``: the same for every
stage that rejected the record and for every repeat after a crash, and the same as in logs and in the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaException, Message, Producer

from pipeline.core.contract import SKIP
from pipeline.core.errors import CallscribeError, NotReadyError, PoisonError, UsageError
from pipeline.core.ids import call_id_of_key
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.provisioning import schema_source
from pipeline.runtime.read import decode, read_to_end
from pipeline.runtime.security import confluent_config
from pipeline.runtime.settings import Settings
from schemas.codec import Codec, CodecError
from schemas.records import DeadLetter
from schemas.registry import RegistryError
from topics import load, topic

TOPIC = topic("dead-letters")
MAX_VALUE_BYTES = 512 * 1024
MAX_KEY_BYTES = 1024  # a key that names a call has 128 at most
MAX_DETAIL_CHARACTERS = 500
DELIVERY_SECONDS = 30.0

_Written = tuple[str, int, bytes | None, bytes | None, dict[str, bytes]]  # topic, partition, key, value, headers


@dataclass(frozen=True, slots=True, order=True)
class Coordinates:
    """Where a record lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Coordinates:
        """Return the coordinates in ``topic/partition/offset``. Raises UsageError.

        >>> Coordinates.parse("callscribe.call.audio.v1/3/42").partition
        3
        """
        name, *numbers = text.split("/")
        if not name or len(numbers) != 2 or not all(number.isascii() and number.isdigit() for number in numbers):
            raise UsageError(f"a dead letter is named topic/partition/offset; got {text!r}")
        return cls(name, int(numbers[0]), int(numbers[1]))


def dead_letter(
    *,
    stage: str,
    error: Exception,
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    time_ms: int,
) -> DeadLetter:
    """Return the dead letter of a record that ``stage`` could not use because of ``error``.

    A value above 512 kB is left out; its size and SHA-256 stay. So is a key above 1 kB, and the detail tells its size. The text of an
    error that is not ours is left out too: it may quote the record. ``time_ms`` is the wall-clock time of the rejection, ms since the
    epoch.
    """
    data = value or b""
    is_ours = isinstance(error, CallscribeError | CodecError)
    detail = str(error)[:MAX_DETAIL_CHARACTERS] if is_ours else ""
    if key and (key_size := len(key)) > MAX_KEY_BYTES:
        key, detail = None, f"{detail}; the key of {key_size} bytes was not kept"
    return DeadLetter(
        stage=stage,
        reason=type(error).__name__,
        detail=detail,
        topic=topic,
        partition=partition,
        offset=offset,
        key=key,
        value=value if len(data) <= MAX_VALUE_BYTES else None,
        value_size=len(data),
        value_sha256=hashlib.sha256(data).hexdigest(),
        call_id=_call_id(key),
        time_ms=time_ms,
    )


def coordinates_of(letter: DeadLetter) -> Coordinates:
    """Return the name of a dead letter: the coordinates of the original record."""
    return Coordinates(letter.topic, letter.partition, letter.offset)


class DeadLetterProducer:
    """Writes dead letters, each to the partition number of its original, and waits until they are acknowledged."""

    def __init__(self, settings: Settings, *, codec: Codec | None = None) -> None:
        self._settings = settings
        self._topic = TOPIC.full_name(settings.topics.prefix)
        self._codec = codec or Codec(schema_source(settings))
        self._producer: Producer | None = None

    def __call__(self, letters: Sequence[DeadLetter]) -> None:
        """Write ``letters``; returns when all are acknowledged. Raises NotReadyError; a repeat starts afresh."""
        if self._producer is None:
            self._producer = _producer(self._settings)
        try:
            records: list[_Written] = [
                (self._topic, letter.partition, letter.key, self._codec.encode(letter), {}) for letter in letters
            ]
        except RegistryError as error:
            raise NotReadyError(str(error)) from error
        try:
            _deliver(self._producer, records)
        except NotReadyError:
            self._producer = None  # an idempotent producer that lost a record refuses every later one
            raise


def read_dead_letters(settings: Settings, *, codec: Codec | None = None) -> Iterator[DeadLetter]:
    """Yield every dead letter of the deployment, each rejection of a record once, in no particular order.

    A value in the topic that is no dead letter is passed over. Raises NotReadyError.
    """
    codec = codec or Codec(schema_source(settings))
    seen: set[tuple[str, Coordinates]] = set()
    for message in read_to_end(settings, TOPIC.full_name(settings.topics.prefix)):
        try:
            letter = decode(codec, message.value(), DeadLetter)
        except CodecError:
            continue
        identity = (letter.stage, coordinates_of(letter))
        if identity not in seen:
            seen.add(identity)
            yield letter


def requeue(settings: Settings, letters: Sequence[DeadLetter]) -> None:
    """Write the original values again, with their keys, to the partitions they came from; returns when acknowledged.

    A record that several stages rejected is written once. It is for them alone: a header ``<stage>: skip`` tells it to the other
    stages that read the topic. Raises NotReadyError, and UsageError when a value was too large to be kept (nothing is written then).
    """
    originals = {coordinates_of(letter): letter for letter in letters}
    rejected = {(coordinates_of(letter), letter.stage) for letter in letters}
    stages = {one.changelog_of for one in load() if one.changelog_of}
    readers = {one.full_name(settings.topics.prefix): stages.intersection(one.consumers) for one in load()}
    for coordinates, letter in originals.items():
        if letter.value is None and letter.value_size > 0:
            raise UsageError(f"{coordinates}: the value ({letter.value_size} bytes) was too large to be kept")
    records: list[_Written] = []
    for name, letter in originals.items():
        others = [stage for stage in readers.get(name.topic, ()) if (name, stage) not in rejected]
        records.append((name.topic, name.partition, letter.key, letter.value, dict.fromkeys(others, SKIP)))
    _deliver(_producer(settings), records)


def _call_id(key: bytes | None) -> str | None:
    try:
        return call_id_of_key(key)
    except PoisonError:
        return None


def _producer(settings: Settings) -> Producer:
    return Producer(
        confluent_config(settings.kafka, bootstrap_servers(settings))
        | {
            "enable.idempotence": True,
            "delivery.timeout.ms": int(DELIVERY_SECONDS * 1000),
            "message.max.bytes": TOPIC.max_message_bytes,
        }
    )


def _deliver(producer: Producer, records: Sequence[_Written]) -> None:
    """Write records and wait. Raises NotReadyError naming the first that failed."""
    failures: list[str] = []

    def on_delivery(error: object, message: Message) -> None:
        if error is not None:
            failures.append(f"topic {message.topic()}: {error}")

    try:
        for name, partition, key, value, headers in records:
            producer.produce(name, value=value, key=key, headers=headers, partition=partition, on_delivery=on_delivery)
        left = producer.flush(DELIVERY_SECONDS + 5)
    except (KafkaException, BufferError) as error:
        raise NotReadyError(f"Kafka: a record could not be written ({type(error).__name__})") from error
    if failures or left:
        raise NotReadyError(failures[0] if failures else f"Kafka: {left} records were not acknowledged in time")
