"""What commits remember when partitions change hands: deaths are counted, hand-overs are not, and what is condemned stays so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.runtime.attempts import Attempts, Start
from pipeline.runtime.positions import Positions

TOPIC = "call.audio"
PLACE = TopicPartition(TOPIC, 0)
END = 100_000
LIMIT = 3


class Broker:
    """One partition with a backlog, and the commits of a group; ``is_deaf`` while the group has gone on without a member."""

    def __init__(self, offset: int = 5, text: str = "") -> None:
        self.first = 0
        self.commits = {PLACE: OffsetAndMetadata(offset, text)}
        self.is_deaf = False

    @property
    def found(self) -> tuple[int, Attempts]:
        return self.commits[PLACE].offset, Attempts.parse(self.commits[PLACE].metadata)


class Consumer:
    """What of Faust's consumer, its thread and the client in it `Positions` uses."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.consumer = self._thread = self._coordinator = self

    def _ensure_consumer(self) -> Consumer:
        return self

    async def call_thread(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        return await function(*arguments)

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    async def beginning_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self._broker.first)

    async def end_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, END)

    async def fetch_committed_offsets(
        self, places: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        return {place: self._broker.commits[place] for place in places}

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        if self._broker.is_deaf:
            raise CommitFailedError
        self._broker.commits |= offsets


class Process:
    """A worker's side of it: starts, and ends in good order or not."""

    def __init__(self, broker: Broker) -> None:
        self.positions = Positions(Consumer(broker), TOPIC)
        self.starts: dict[int, Start] = {}

    def start(self) -> Start:
        self.starts = asyncio.run(self.positions.starts(LIMIT))
        return self.starts[0]

    def give_up(self, head: int | None = None) -> None:
        heads = {0: self.starts[0].offset if head is None else head}
        asyncio.run(self.positions.give_up(self.starts, heads, seconds=5))


def test_rebalances_in_front_of_a_backlog_are_no_deaths() -> None:
    broker = Broker()
    one, other = Process(broker), Process(broker)
    for process in (one, one, other, one, other, other):
        assert process.start().attempts == Attempts(starts=1)
        process.give_up()
        assert broker.found == (5, Attempts())


@pytest.mark.parametrize("rebalances", [0, 1, 4])
def test_a_crash_loop_is_found_though_every_start_rebalances(rebalances: int) -> None:
    broker, processes = Broker(), 0
    while processes < 10:
        processes, process = processes + 1, Process(broker)
        start = process.start()
        for _ in range(rebalances):
            process.give_up()
            start = process.start()
        if start.is_condemned(7):
            break
        if start.is_careful(7):
            start.in_hand = 7
            assert asyncio.run(process.positions.remember(process.starts, {0: 5}))
    assert processes == 1 + 1 + LIMIT  # the first dies before there is care, the last gets through
    assert broker.found[1].condemned == (7,)


def test_what_is_done_is_committed_when_the_partitions_go() -> None:
    broker = Broker(text=Attempts(condemned=(3, 50)).to_text())
    process = Process(broker)
    process.start()
    process.give_up(20)
    assert broker.found == (20, Attempts(condemned=(50,)))
    process.give_up(5)  # they have gone: the next owner may be further on
    assert broker.found == (20, Attempts(condemned=(50,)))


def test_a_member_that_the_group_went_on_without_has_not_died() -> None:
    broker = Broker()
    process = Process(broker)
    process.start()
    for _ in range(5):
        broker.is_deaf = True
        process.give_up()
        broker.is_deaf = False
        assert process.start().attempts == Attempts(starts=1)


def test_others_that_died_in_between_are_counted() -> None:
    broker = Broker()
    process = Process(broker)
    process.start()
    process.give_up()
    Process(broker).start()
    assert process.start().attempts == Attempts(starts=2)


def test_what_is_condemned_stays_so_when_a_partition_is_read_again_or_loses_records() -> None:
    broker = Broker(text=Attempts(condemned=(8, 50)).to_text())
    process = Process(broker)
    start = process.start()
    asyncio.run(process.positions.rewind(start, 0, 2))
    assert broker.found == (2, Attempts(condemned=(8, 50)))
    broker.first = 10
    assert process.start().attempts.condemned == (50,)
    assert broker.found == (10, Attempts(condemned=(50,)))


@pytest.mark.parametrize(("first", "offset"), [(0, 0), (3, 8)])
def test_a_topic_that_was_made_again_is_read_from_its_beginning(first: int, offset: int) -> None:
    """One that holds no first record is an old one: the broker has only failed to name it for a while."""
    broker = Broker(8, Attempts(condemned=(9,)).to_text())
    broker.first = first
    positions = Positions(Consumer(broker), TOPIC)
    positions._is_made_again = True
    (start,) = asyncio.run(positions.starts(LIMIT)).values()
    assert (start.offset, start.attempts.condemned) == (offset, (9,) if first else ())
    assert broker.found[0] == offset


def test_a_question_that_is_not_answered_leaves_the_thread_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.runtime.positions.ANSWER_SECONDS", 0.01)
    broker = Broker()
    consumer = Consumer(broker)
    asked: list[str] = []

    def silent(name: str, times: int) -> None:
        answer = getattr(consumer, name)

        async def ask(*arguments: Any) -> Any:
            asked.append(name)
            return await (answer(*arguments) if asked.count(name) > times else asyncio.Event().wait())

        monkeypatch.setattr(consumer, name, ask)

    for name in ("beginning_offsets", "end_offsets", "fetch_committed_offsets", "commit"):
        silent(name, 2)
    positions = Positions(consumer, TOPIC)
    start = asyncio.run(positions.starts(LIMIT))[0]  # nothing else happens before it begins
    assert (start.offset, start.end) == (5, END)
    assert {asked.count(name) for name in set(asked)} == {3}
    assert broker.found == (5, Attempts(starts=1))
    silent("end_offsets", 9)
    with pytest.raises(TimeoutError):  # a sweep's question is put off
        asyncio.run(positions.held())


@pytest.mark.parametrize("offset", [-1, END + 1])
def test_the_first_start_in_a_log_counts(offset: int) -> None:
    """Nothing is committed, or the commit is of a log that was deleted."""
    broker = Broker(offset, Attempts(starts=2, condemned=(8,)).to_text())
    assert Process(broker).start().attempts == Attempts(starts=1)
    assert broker.found == (0, Attempts(starts=1))
    assert Process(broker).start().attempts == Attempts(starts=2)
