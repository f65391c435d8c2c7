"""Records that kill the sink: where reading starts in its partitions, and which records it takes in hand alone.

What `pipeline.runtime.positions` is for the stages, for a librdkafka consumer: the same metadata in the same commits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from pipeline.runtime.attempts import Start
from pipeline.runtime.deletions import Deletions

WATERMARK_SECONDS = 10.0

log = logging.getLogger("callscribe.sink")


class Killers:
    """The starts of a consumer's partitions. ``max_batch`` records at most were in hand together when the last process ended."""

    def __init__(self, *, max_deaths: int, max_batch: int, deletions: Deletions | None = None) -> None:
        self._max_deaths = max_deaths
        self._max_batch = max_batch
        self._deletions = deletions
        self._starts: dict[int, Start] = {}
        self._heads: dict[int, int] = {}  # what is committed
        self._not_taken_back: dict[int, Start] = {}  # starts of this process that others count as deaths

    def is_ahead(self, partition: int, offset: int) -> bool:
        """Return whether a commit of ``offset`` sets nothing back: the partition may have been another's since its records were read."""
        return offset > self._heads.get(partition, -1)

    def commit(self, consumer: Consumer, offsets: Sequence[TopicPartition]) -> None:
        """Commit ``offsets``, and what their partitions remember. Raises KafkaException."""
        commits = []
        for one in offsets:
            start = self._starts.get(one.partition)
            metadata = "" if start is None else start.metadata(one.offset)
            commits.append(TopicPartition(one.topic, one.partition, one.offset, metadata=metadata))
        consumer.commit(offsets=commits, asynchronous=False)
        self._heads |= {one.partition: one.offset for one in commits}

    def gained(self, consumer: Consumer, partitions: Sequence[TopicPartition], *, is_made_again: bool = False) -> None:
        """Look up where reading of ``partitions`` starts, and commit that with one more start in the metadata.

        What is committed says nothing of a topic that ``is_made_again``. Where the broker cannot say, the partition is read without
        care: the next start asks again.
        """
        for partition in partitions:
            self._starts.pop(partition.partition, None)
            if self._deletions is not None:
                self._deletions.forget(partition.partition)
            try:
                start = self._start(consumer, partition, is_made_again=is_made_again)
                if start is not None:
                    self._starts[partition.partition] = start
                    self.commit(consumer, [TopicPartition(partition.topic, partition.partition, start.offset)])
            except KafkaException as error:
                log.warning(
                    "commit metadata not read: %s", error.args[0].str(), extra={"partition": partition.partition}
                )

    def given_up(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Forget ``partitions``, which go in good order: no record is to blame, and no start of them has come to nothing."""
        for partition in partitions:
            start, head = self._starts.get(partition.partition), self._heads.get(partition.partition)
            if start is not None and head is not None:
                counted = start.metadata(head)
                start.is_over = True
                try:
                    if start.metadata(head) != counted:
                        self.commit(consumer, [TopicPartition(partition.topic, partition.partition, head)])
                except KafkaException as error:
                    log.warning("start not taken back: %s", error.args[0].str())
                else:
                    del self._starts[partition.partition]
        self.lost(partitions)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Forget ``partitions``, which others may have by now."""
        for partition in partitions:
            if start := self._starts.pop(partition.partition, None):
                self._not_taken_back[partition.partition] = start
            self._heads.pop(partition.partition, None)

    def fail(self) -> None:
        """Forget everything: the process ends because of what is in hand."""
        self._starts.clear()

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
        self._starts[message.partition()].in_hand = message.offset()
        topic = message.topic()
        assert topic is not None
        self.commit(consumer, [TopicPartition(topic, message.partition(), message.offset())])

    def _start(self, consumer: Consumer, partition: TopicPartition, *, is_made_again: bool) -> Start | None:
        """Return where reading starts; None where there is nothing to fail at."""
        first, end = consumer.get_watermark_offsets(partition, timeout=WATERMARK_SECONDS)
        (known,) = consumer.committed([partition], timeout=WATERMARK_SECONDS)
        committed = None if is_made_again or known.offset < 0 else known.offset
        start = Start.from_commit(
            committed,
            known.metadata,
            first=first,
            end=end,
            max_deaths=self._max_deaths,
            last=self._not_taken_back.pop(partition.partition, None),
        )
        if self._deletions is not None:
            self._deletions.gain(partition.partition, first=first, committed=committed, offset=start.offset)
        self._heads[partition.partition] = start.offset
        return None if start.offset == end else replace(start, end=min(end, start.offset + self._max_batch))
