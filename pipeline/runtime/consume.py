"""The sink's runner: records of ``call.segments`` to a function that writes them, at least once and in order.

For each batch: decode, write (one transaction of the store), dead letters delivered, offsets committed. A crash
between any two steps repeats the batch, which the store must take as the same rows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.core.errors import CondemnedError, FatalError, NotReadyError, PoisonError
from pipeline.core.ids import CALL_CHANNEL, call_id_of_key
from pipeline.core.passing import check_key, check_numbers
from pipeline.runtime.crash_points import reach
from pipeline.runtime.dead_letters import DeadLetterProducer, dead_letter
from pipeline.runtime.deletions import Deletions
from pipeline.runtime.killers import Killers
from pipeline.runtime.provisioning import schema_source
from pipeline.runtime.read import decode, open_consumer, partitions_of
from pipeline.runtime.retention import RetentionWatch
from pipeline.runtime.settings import Settings
from pipeline.runtime.starts import CallStarts
from pipeline.runtime.stopping import STOP_SECONDS, stop_by_signal
from pipeline.runtime.topic_watch import TopicWatch
from pipeline.runtime.waits import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, doubling
from schemas.codec import Codec, CodecError
from schemas.records import CallSegment, DeadLetter, Degraded
from topics import topic

STAGE = "sink"
TOPIC = topic("call.segments")

PREFETCH_KILOBYTES = 16 * 1024  # what librdkafka may hold before it is asked for: two of the largest batches

log = logging.getLogger("callscribe.sink")

Write = Callable[[Sequence[CallSegment]], None]
Reject = Callable[[Sequence[DeadLetter]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a batch is full, and how long to wait where something is away."""

    max_records: int = 500
    max_bytes: int = 8 * 1024 * 1024
    max_seconds: float = 0.2
    first_retry_seconds: float = FIRST_RETRY_SECONDS
    last_retry_seconds: float = LAST_RETRY_SECONDS
    stop_seconds: float = STOP_SECONDS - 4.0


def consume(
    settings: Settings,
    *,
    write: Write,
    reject: Reject | None = None,
    stop: threading.Event | None = None,
    on_assigned: Callable[[int], None] | None = None,
    codec: Codec | None = None,
    limits: Limits | None = None,
    deletions: Deletions | None = None,
) -> None:
    """Give every record of ``call.segments`` to ``write``, in batches, until ``stop`` is set.

    ``write`` must be idempotent, commits for itself, and raises NotReadyError (tried again until it succeeds, while
    the consumer stays in its group) or PoisonError (the records are tried one by one, and those refused go to
    ``reject``, by default the dead-letter topic). Any other error ends the run with nothing acknowledged.
    ``on_assigned`` hears the number of partitions after each rebalance. Without ``stop``, SIGTERM and SIGINT stop the
    run: the batch at hand is finished and committed first. ``deletions`` is told what was deleted before it was read.

    Raises NotReadyError when the broker or the topic is not there at the start, FatalError when the group turns this
    member away.
    """
    stop = stop or stop_by_signal()
    codec = codec or Codec(schema_source(settings))
    runner = _Runner(
        settings=settings,
        write=write,
        reject=reject or DeadLetterProducer(settings, codec=codec),
        stop=stop,
        on_assigned=on_assigned or (lambda count: None),
        codec=codec,
        limits=limits or Limits(),
        deletions=deletions or Deletions(CallStarts(settings, codec)),
    )
    runner.run()


class _Runner:
    def __init__(
        self,
        *,
        settings: Settings,
        write: Write,
        reject: Reject,
        stop: threading.Event,
        on_assigned: Callable[[int], None],
        codec: Codec,
        limits: Limits,
        deletions: Deletions,
    ) -> None:
        self._topic = TOPIC.full_name(settings.topics.prefix)
        self._write = write
        self._reject = reject
        self._stop = stop
        self._on_assigned = on_assigned
        self._codec = codec
        self._limits = limits
        self._early: deque[Message] = deque()  # arrived while partitions were paused
        self._owned: set[int] = set()
        self._deletions = deletions
        self._killers = Killers(
            max_deaths=settings.runtime.max_deaths, max_batch=limits.max_records, deletions=deletions
        )
        self._retention = RetentionWatch(TOPIC)
        self._watch = TopicWatch(self._topic)
        self._settings = settings
        self._consumer = open_consumer(settings, _config(settings))

    def run(self) -> None:
        try:
            self._deletions.partitions = len(partitions_of(self._consumer, self._topic, self._settings))
            self._consumer.subscribe(
                [self._topic], on_assign=self._gained, on_revoke=self._given_up, on_lost=self._lost
            )
            while not self._stop.is_set():
                if made_again := self._watch.look(self._consumer):
                    self._early.clear()
                    self._killers.gained(self._consumer, made_again, is_made_again=True)
                self._take(self._gather())
        except BaseException:
            self._killers.fail()
            raise
        finally:
            self._consumer.close()

    # The client itself assigns and unassigns after these return.
    def _gained(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._owned |= {one.partition for one in partitions}
        self._killers.gained(consumer, partitions)
        self._tell()

    def _given_up(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # librdkafka keeps the pause of a partition that goes while it is paused (the store is away): when it comes back it would never
        # be read again.
        with suppress(KafkaException):
            consumer.resume(partitions)
        self._killers.given_up(consumer, partitions)
        self._owned -= {one.partition for one in partitions}
        self._tell()

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._killers.lost(partitions)
        self._given_up(consumer, partitions)

    def _tell(self) -> None:
        log.info("assigned", extra={"topic": self._topic, "partitions": len(self._owned)})
        self._on_assigned(len(self._owned))

    # -- gather ------------------------------------------------------------------------------------------------------

    def _gather(self) -> list[Message]:
        """Return the next records: as many as there are, at most one batch."""
        batch: list[Message] = []
        size = 0
        deadline = time.monotonic() + self._limits.max_seconds
        while len(batch) < self._limits.max_records and size < self._limits.max_bytes:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._stop.is_set():
                break
            message = self._early.popleft() if self._early else self._poll(remaining)
            if message is not None:
                batch.append(message)
                size += len(message)
        return batch

    def _poll(self, timeout_seconds: float) -> Message | None:
        message = self._consumer.poll(timeout_seconds)
        if message is None or message.error() is None:
            return message
        error = message.error()
        if _is_turned_away(error):
            raise FatalError(f"Kafka: {error.str()}")
        log.warning("Kafka: %s", error.str())
        return None

    # -- take --------------------------------------------------------------------------------------------------------

    def _take(self, batch: Sequence[Message]) -> None:
        """Process and commit ``batch``; one by one behind starts that came to nothing, since one of them may end the process."""
        if batch:
            self._retention.look(batch[0].timestamp()[1])
        for message in batch:
            self._deletions.read(message)
        if not any(self._killers.is_careful(message) for message in batch):
            if batch and self._process_surely(batch):
                self._commit(batch)
            return
        for message in batch:
            if self._killers.is_careful(message):
                self._try_commit(partial(self._killers.take_in_hand, self._consumer, message))
            if not self._process_surely([message]):
                return
            self._commit([message])

    # -- process -----------------------------------------------------------------------------------------------------

    def _process_surely(self, batch: Sequence[Message]) -> bool:
        """Process ``batch``, again and again where something is away; False when stopped before it succeeded."""
        waits = doubling(self._limits.first_retry_seconds, self._limits.last_retry_seconds)
        while True:
            error = self._process_aside(batch)
            if error is None:
                return True
            if not isinstance(error, NotReadyError):
                raise error
            if self._stop.is_set():
                return False
            wait_seconds = next(waits)
            log.warning("%s; trying again in %.1f s", error, wait_seconds)
            self._idle(self._stop.is_set, wait_seconds)

    def _process_aside(self, batch: Sequence[Message]) -> Exception | None:
        """Process ``batch`` in a thread of its own, so that a store that hangs never costs the group membership."""
        outcome: list[Exception | None] = []

        def attempt() -> None:
            try:
                self._process(batch)
                outcome.append(None)
            except Exception as error:
                outcome.append(error)

        thread = threading.Thread(target=attempt, name="sink-write", daemon=True)
        thread.start()
        thread.join(self._limits.first_retry_seconds)
        if thread.is_alive():
            self._idle(lambda: not thread.is_alive(), None)
        return outcome[0] if outcome else NotReadyError("the store did not answer before the stop")

    def _idle(self, is_done: Callable[[], bool], timeout_seconds: float | None) -> None:
        """Keep polling with everything paused until done, timed out, or stopped for longer than allowed."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        stop_deadline: float | None = None
        while not is_done():
            now = time.monotonic()
            if self._stop.is_set():
                stop_deadline = stop_deadline or now + self._limits.stop_seconds
                if now >= stop_deadline:
                    break
            if deadline is not None and now >= deadline:
                break
            self._consumer.pause(self._consumer.assignment())
            message = self._poll(0.1)
            if message is not None:  # of a partition that came with a rebalance just now
                self._early.append(message)
        self._consumer.resume(self._consumer.assignment())

    def _process(self, batch: Sequence[Message]) -> None:
        """Write ``batch`` and deliver what it rejects. May run again for the same batch."""
        records: list[tuple[Message, CallSegment]] = []
        letters: list[DeadLetter] = []
        for message in batch:
            try:
                if self._killers.is_condemned(message):
                    raise CondemnedError
                record = decode(self._codec, message.value(), CallSegment)
                check_key(record, call_id_of_key(message.key()))
                check_numbers(record)
                reach(STAGE, "decoded", message.offset())
                records.append((message, record))
            except (CodecError, PoisonError) as error:
                letters.append(self._letter(message, error))
        letters += self._write_records(records)
        reach(STAGE, "stored")
        if letters:
            with suppress(PoisonError):  # the dead letter itself tells what is missing
                self._write([record for letter in letters for record in _degraded(letter)])
            self._reject(letters)
            reach(STAGE, "letters_delivered")
            for letter in letters:
                place = {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
                log.warning("record rejected: %s", letter.reason, extra=place)

    def _write_records(self, records: Sequence[tuple[Message, CallSegment]]) -> list[DeadLetter]:
        """Write ``records`` in one transaction, or one by one where the store refuses some; return those refused."""
        if not records:
            return []
        try:
            self._write([record for _, record in records])
        except PoisonError as error:
            if len(records) == 1:
                return [self._letter(records[0][0], error)]
            return [letter for one in records for letter in self._write_records([one])]
        return []

    def _letter(self, message: Message, error: Exception) -> DeadLetter:
        return dead_letter(
            stage=STAGE,
            error=error,
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            key=message.key(),
            value=message.value(),
            time_ms=time.time_ns() // 1_000_000,
        )

    # -- commit ------------------------------------------------------------------------------------------------------

    def _commit(self, batch: Iterable[Message]) -> None:
        """Commit the positions after ``batch`` for the partitions that are still ours."""
        positions: dict[int, int] = {}
        for message in batch:
            if message.partition() in self._owned:
                positions[message.partition()] = max(positions.get(message.partition(), 0), message.offset() + 1)
        if not positions:
            return
        offsets = [
            TopicPartition(self._topic, partition, offset)
            for partition, offset in positions.items()
            if self._killers.is_ahead(partition, offset)
        ]
        if offsets:
            self._try_commit(partial(self._killers.commit, self._consumer, offsets))
        reach(STAGE, "committed")

    def _try_commit(self, commit: Callable[[], object]) -> None:
        try:
            commit()
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            if _is_turned_away(cause):
                raise FatalError(f"Kafka: {cause.str()}") from error
            # The records are in the store; whoever reads them again writes the same rows.
            log.warning("offsets not committed: %s", cause.str())


def _is_turned_away(error: KafkaError) -> bool:
    """Return whether this consumer will never get a record again.

    librdkafka does not mark what it hands out from ``poll`` as fatal. A static member is fenced by another with its id, and also by
    itself when it joins again behind a coordinator that has moved.
    """
    return bool(error.fatal()) or error.code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)


def _degraded(letter: DeadLetter) -> list[CallSegment]:
    """Return the record that marks the call of a dead letter; none where the call is not known."""
    if letter.call_id is None:
        return []
    return [
        CallSegment(
            call_id=letter.call_id,
            kind="degraded",
            channel=CALL_CHANNEL,
            sequence=0,
            start_sample=0,
            sample_rate_hz=0,
            capture_time_ms=0,
            degraded=Degraded(
                stage=letter.stage,
                reason=letter.reason,
                topic=letter.topic,
                partition=letter.partition,
                offset=letter.offset,
            ),
        )
    ]


def _config(settings: Settings) -> dict[str, object]:
    config: dict[str, object] = {
        "group.id": f"{settings.topics.prefix}.{STAGE}",
        "partition.assignment.strategy": "cooperative-sticky",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "queued.max.messages.kbytes": PREFETCH_KILOBYTES,
        "session.timeout.ms": int(settings.kafka.session_timeout_seconds * 1000),
        "heartbeat.interval.ms": int(settings.kafka.session_timeout_seconds * 1000 / 3),
    }
    if settings.runtime.instance_id:
        config["group.instance.id"] = f"{settings.runtime.instance_id}.{STAGE}"
    return config
