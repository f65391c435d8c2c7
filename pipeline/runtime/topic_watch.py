"""Whether the topic of the sink is there: one that was deleted and made again is another log, and is read from its beginning."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

log = logging.getLogger("callscribe.sink")

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 2.0
GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


class TopicWatch:
    """Looks after ``topic`` for a librdkafka consumer, which goes on at its old offset when the topic is there again.

    What `pipeline.runtime.positions` does for the stages.
    """

    def __init__(self, topic: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._topic = topic
        self._clock = clock
        self._looked = clock()
        self._is_missing = False

    def look(self, consumer: Consumer) -> list[TopicPartition]:
        """Say when the topic is missing; return the partitions that are read from their beginning, now that it is there again.

        Asks the broker every `LOOK_SECONDS`; where it does not answer nothing is known.
        """
        if self._clock() - self._looked < LOOK_SECONDS:
            return []
        self._looked = self._clock()
        try:
            found = consumer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic]
            if found.error is not None:
                if not self._is_missing and found.error.code() in GONE:
                    log.error("topic %s is missing; waiting for it (callscribe topics apply)", self._topic)
                    self._is_missing = True
                return []
            if not self._is_missing:
                return []
            partitions: list[TopicPartition] = consumer.assignment()
            for one in partitions:
                consumer.seek(TopicPartition(one.topic, one.partition, OFFSET_BEGINNING))
        except KafkaException:  # the broker is away, or the consumer has not found the partition yet
            return []
        self._is_missing = False
        log.warning("topic %s is there again; it is read from its beginning", self._topic)
        return partitions
