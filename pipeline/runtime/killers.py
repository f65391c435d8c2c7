"""Records that kill the sink: where reading starts in its partitions, and which records it takes in hand alone.

What `pipeline.runtime.positions` is for the stages, for a librdkafka consumer: the same metadata in the same commits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from pipeline.runtime.attempts import Attempts, Start

WATERMARK_SECONDS = 10.0

log = logging.getLogger("callscribe.sink")


class Killers:
    """The starts of a consumer's partitions. ``max_batch`` records at most were in hand together when the last process ended."""

    def __init__(self, *, max_deaths: int, max_batch: int) -> None:
        self._max_deaths = max_deaths
        self._max_batch = max_batch
        self._starts: dict[int, Start] = {}
        self._floors: dict[int, int] = {}  # what was committed when a partition came

    def is_ahead(self, partition: int, offset: int) -> bool:
        """Return whether a commit of ``offset`` sets nothing back: the partition may have been another's since its records were read."""
        return offset > self._floors.get(partition, -1)

    def gained(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Look up where reading of ``partitions`` starts, and commit that with one more start in the metadata.

        Where the broker cannot say, the partition is read without care: the next start asks again.
        """
        for partition in partitions:
            try:
                start = self._start(consumer, partition)
                if start is not None:
                    self._starts[partition.partition] = start
                    _commit(consumer, partition, start.offset, start.attempts)
            except KafkaException as error:
                log.warning(
                    "commit metadata not read: %s", error.args[0].str(), extra={"partition": partition.partition}
                )

    def given_up(self, partitions: Sequence[TopicPartition]) -> None:
        """Forget ``partitions``."""
        for partition in partitions:
            self._starts.pop(partition.partition, None)
            self._floors.pop(partition.partition, None)

    def is_careful(self, message: Message) -> bool:
        """Return whether the record is processed alone."""
        start = self._starts.get(message.partition())
        return start is not None and start.is_careful(message.offset())

    def is_condemned(self, message: Message) -> bool:
        """Return whether the record has ended the process too often."""
        start = self._starts.get(message.partition())
        return start is not None and start.is_condemned(message.offset())

    def take_in_hand(self, consumer: Consumer, message: Message) -> None:
        """Remember that the record is processed next. Raises KafkaException."""
        attempts = replace(self._starts[message.partition()].attempts, in_hand=message.offset())
        _commit(consumer, _place(message), message.offset(), attempts)

    def put_down(self, consumer: Consumer, message: Message) -> None:
        """Remember that nothing is in hand: the process goes, and the record is not to blame. Raises KafkaException."""
        start = self._starts.get(message.partition())
        if start is not None:
            _commit(consumer, _place(message), message.offset(), start.attempts)

    def _start(self, consumer: Consumer, partition: TopicPartition) -> Start | None:
        """Return where reading starts; None where there is nothing to fail at."""
        first, end = consumer.get_watermark_offsets(partition, timeout=WATERMARK_SECONDS)
        (known,) = consumer.committed([partition], timeout=WATERMARK_SECONDS)
        if 0 <= known.offset < first:
            log.error(
                "records were deleted before they were stored; coverage tells the calls that lack samples",
                extra={"topic": partition.topic, "partition": partition.partition, "records": first - known.offset},
            )
        offset = known.offset if first <= known.offset <= end else first
        self._floors[partition.partition] = offset
        if offset == end:
            return None
        metadata = known.metadata if known.offset == offset else None
        attempts = Attempts.parse(metadata).started(self._max_deaths)
        return Start(offset=offset, first=first, end=min(end, offset + self._max_batch), attempts=attempts)


def _place(message: Message) -> TopicPartition:
    topic, partition = message.topic(), message.partition()
    assert topic is not None
    assert partition is not None
    return TopicPartition(topic, partition)


def _commit(consumer: Consumer, partition: TopicPartition, offset: int, attempts: Attempts) -> None:
    position = TopicPartition(partition.topic, partition.partition, offset, metadata=attempts.to_text())
    consumer.commit(offsets=[position], asynchronous=False)
