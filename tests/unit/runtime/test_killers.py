"""The sink's side of records that kill: what its commits remember, and when its starts count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import TopicPartition

from pipeline.runtime.attempts import Attempts
from pipeline.runtime.killers import Killers

PLACE = TopicPartition("call.segments", 0)
END = 100_000
BATCH = 10


class Broker:
    """One partition with a backlog and the sink's commit; what of a librdkafka consumer `Killers` uses."""

    def __init__(self, text: str = "") -> None:
        self.commits = [TopicPartition(PLACE.topic, 0, 5, metadata=text)]

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, END

    def committed(self, places: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        return self.commits[-1:]

    def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        self.commits += offsets

    @property
    def found(self) -> tuple[int, Attempts]:
        return self.commits[-1].offset, Attempts.parse(self.commits[-1].metadata)


class Message:
    """A record's place."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        return PLACE.topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


def killers(broker: Any) -> Killers:
    made = Killers(max_deaths=3, max_batch=BATCH)
    made.gained(broker, [PLACE])
    return made


def test_partitions_that_change_hands_are_no_deaths() -> None:
    broker: Any = Broker()
    for _ in range(5):
        owner = killers(broker)
        assert broker.found == (5, Attempts(starts=1))
        owner.given_up(broker, [PLACE])
        assert broker.found == (5, Attempts())


def test_a_partition_that_was_lost_and_comes_back_is_no_death() -> None:
    broker: Any = Broker()
    owner = killers(broker)
    for _ in range(5):
        owner.lost([PLACE])
        owner.gained(broker, [PLACE])
        assert broker.found == (5, Attempts(starts=1))


def test_an_end_because_of_what_is_in_hand_counts() -> None:
    broker: Any = Broker()
    for _ in range(2):
        owner = killers(broker)
        owner.fail()
        owner.given_up(broker, [PLACE])
    assert broker.found == (5, Attempts(starts=2))
    owner = killers(broker)
    message: Any = Message(6)
    assert owner.is_careful(message)
    owner.take_in_hand(broker, message)
    owner.fail()
    owner.given_up(broker, [PLACE])
    killers(broker)
    assert broker.found == (6, Attempts(starts=3, culprit=6, deaths=1))


def test_a_stop_puts_down_what_is_in_hand() -> None:
    broker: Any = Broker(Attempts(starts=2).to_text())
    owner = killers(broker)
    message: Any = Message(5)
    owner.take_in_hand(broker, message)
    assert broker.found == (5, Attempts(starts=3, in_hand=5))
    owner.given_up(broker, [PLACE])
    assert broker.found == (5, Attempts(starts=2))


def test_a_topic_that_was_made_again_is_read_from_its_beginning() -> None:
    broker: Any = Broker(Attempts(starts=2, condemned=(7,)).to_text())
    owner = killers(broker)
    owner.gained(broker, [PLACE], is_made_again=True)
    assert broker.found == (0, Attempts(starts=1))
    assert owner.is_ahead(0, 1)


def test_where_there_is_nothing_to_read_no_start_is_counted() -> None:
    broker: Any = Broker()
    broker.commits = [TopicPartition(PLACE.topic, 0, END)]
    owner = killers(broker)
    assert len(broker.commits) == 1
    assert (owner.is_ahead(0, END), owner.is_ahead(0, END + 1)) == (False, True)


def test_care_ends_behind_a_batch_and_what_is_condemned_stays_so() -> None:
    broker: Any = Broker(Attempts(starts=9, condemned=(7, 500)).to_text())
    owner = killers(broker)
    messages: list[Any] = [Message(offset) for offset in (4, 5, 4 + BATCH, 5 + BATCH)]
    assert [owner.is_careful(message) for message in messages] == [False, True, True, False]
    expected = {6: (10, (7, 500)), 8: (10, (500,)), 5 + BATCH: (0, (500,)), 501: (0, ())}
    for offset, (starts, condemned) in expected.items():
        owner.commit(broker, [TopicPartition(PLACE.topic, 0, offset)])
        assert broker.found == (offset, Attempts(starts=starts, condemned=condemned))
    count = len(broker.commits)
    owner.given_up(broker, [PLACE])  # nothing is to be taken back
    assert len(broker.commits) == count
