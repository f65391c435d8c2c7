"""How much a worker takes into memory, and that no partition takes it from another."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from faust.types import TP

from pipeline.runtime import transport
from pipeline.runtime.room import AGAIN, FairRoom, Room
from pipeline.runtime.transport import STEP

INPUT, CHANGELOG = "input", "changelog"
MAX = 512  # records that a read takes at once
LONG = 30.0  # seconds


def test_room_is_given_by_number_and_by_size() -> None:
    async def work() -> None:
        room = Room(records=3, size_bytes=100)
        await room.enter(500)  # one is always let in
        waiting = asyncio.ensure_future(room.enter(10))
        await asyncio.sleep(0)
        assert not waiting.done()
        room.leave(500)
        await waiting
        await room.enter(10)
        await room.enter(10)
        full = asyncio.ensure_future(room.enter(0))
        await asyncio.sleep(0)
        assert room.is_full
        assert not full.done()
        room.leave(10)
        await full
        assert (room.inside, room.inside_bytes) == (3, 20)

    asyncio.run(asyncio.wait_for(work(), 10))


def filled(room: FairRoom, partition: int, sizes: list[int]) -> FairRoom:
    for size in sizes:
        room.enter(partition, size)
    return room


@pytest.mark.parametrize(("count", "size"), [(32, 1), (4, 250), (1, 5000)])
def test_a_partition_with_its_share_is_full_and_the_others_are_not(count: int, size: int) -> None:
    room = FairRoom(records=64, size_bytes=2000)
    room.share_out(2)
    filled(room, 0, [size] * (count - 1))
    assert not room.is_full(0)
    filled(room, 0, [size])
    assert room.is_full(0)
    assert not room.is_full(1)
    assert (room.inside, room.inside_bytes) == (count, count * size)


@pytest.mark.parametrize("partitions", [0, 1, 3, 1000])
def test_one_record_is_let_in_however_small_the_share(partitions: int) -> None:
    room = FairRoom(records=64, size_bytes=100)
    room.share_out(partitions)
    assert not room.is_full(0)
    assert filled(room, 0, [5000]).is_full(0)
    room.leave(0, [5000])
    assert not room.is_full(0)


def test_what_is_on_its_way_counts() -> None:
    room = FairRoom(records=64, size_bytes=2000)
    room.share_out(2)
    assert not room.is_full(0, 31, 999)
    assert room.is_full(0, 32, 0)
    assert room.is_full(0, 1, 1000)
    assert not room.is_full(0)


def test_a_full_partition_is_read_again_when_some_of_its_share_is_free() -> None:
    freed: list[int] = []
    room = FairRoom(records=128, size_bytes=10**6)
    room.freed = lambda: freed.append(room.inside)
    room.share_out(2)
    filled(room, 0, [1] * (64 + STEP))
    for _ in range(STEP + 64 // AGAIN):
        assert room.is_full(0)
        room.leave(0, [1])
    assert room.is_full(0)
    room.leave(0, [1, 1])
    assert not room.is_full(0)
    room.leave(0, [1] * (room.inside))
    assert freed == [64 - 64 // AGAIN - 2]
    room.leave(0, [])
    assert len(freed) == 1


def test_whoever_waits_for_an_empty_room_hears_of_it() -> None:
    async def work() -> None:
        room = FairRoom(records=8, size_bytes=100)
        await room.empty()
        filled(filled(room, 0, [1, 2]), 1, [3])
        empty = asyncio.ensure_future(room.empty())
        room.leave(0, [1, 2])
        await asyncio.sleep(0)
        assert not empty.done()
        room.leave(1, [3])
        await empty

    asyncio.run(asyncio.wait_for(work(), 10))


class Assignment:
    """What a fetcher knows of its partitions: where each was read to."""

    active = True
    paused = False
    position = 0

    def state_value(self, tp: TopicPartition) -> Assignment:
        return self

    def consumed_to(self, position: int) -> None:
        pass


class Fetched:
    """Records of a partition that the broker has sent."""

    next_fetch_offset = 0

    def __init__(self, count: int, size: int) -> None:
        self._records = iter([SimpleNamespace(value=bytes(size))] * count)

    def __iter__(self) -> Fetched:
        return self

    def __next__(self) -> Any:
        return next(self._records)


class Reading:
    """A thread's reads from an aiokafka fetcher that is given its records."""

    def __init__(self, room: FairRoom | None) -> None:
        self.fetcher = Fetcher.__new__(Fetcher)
        self.fetcher._loop = asyncio.get_running_loop()
        self.fetcher._subscriptions = self  # type: ignore[assignment]
        self.fetcher._records, self.fetcher._fetch_waiters = {}, set()
        self.fetcher._wait_consume_future, self.fetcher._closed = None, False
        self.reassignment_in_progress = self._closed = False
        self._fetcher = self.fetcher
        self.thread = transport._BatchingThread.__new__(transport._BatchingThread)
        self.thread.consumer = SimpleNamespace(flow_active=True, room=room, input_topic=INPUT)
        self.thread._consumer = self
        self.thread.thread_loop = self.fetcher._loop
        self.active: set[TP] = set()

    def fetch_context(self) -> Any:
        return transport.contextlib.nullcontext()

    def is_assigned(self, tp: Any) -> bool:
        return True

    def give(self, partition: int, count: int, size: int = 10, topic: str = INPUT) -> None:
        place = TopicPartition(topic, partition)
        self.active.add(TP(topic, partition))
        self.fetcher._records[place] = FetchResult(
            place, assignment=Assignment(), partition_records=Fetched(count, size), backoff=0
        )
        for waiter in self.fetcher._fetch_waiters:
            self.fetcher._notify(waiter)

    async def read(self, seconds: float = 0.0) -> dict[tuple[str, int], int]:
        found = await self.thread._fetch_records(self, self.active, timeout=seconds, max_records=MAX)
        return {tuple(tp): len(records) for tp, records in found.items()}


def shared(records: int = 200, size_bytes: int = 10**6) -> FairRoom:
    room = FairRoom(records, size_bytes)
    room.share_out(2)
    return room


def test_of_each_partition_its_share_is_read_and_little_more() -> None:
    async def work() -> None:
        reading = Reading(shared())
        reading.give(0, 1000)
        reading.give(1, 3)
        found = await reading.read()
        assert 100 <= found[INPUT, 0] < 100 + STEP
        assert found[INPUT, 1] == 3
        reading = Reading(shared(size_bytes=2000))
        reading.give(0, 1000, size=500)
        assert await reading.read() == {(INPUT, 0): STEP}

    asyncio.run(work())


def test_a_full_partition_stays_with_the_fetcher_and_the_others_are_read() -> None:
    async def work() -> None:
        room = shared()
        reading = Reading(filled(room, 0, [1] * 100))
        reading.give(0, 50)
        assert await reading.read() == {}
        reading.give(1, 50)
        assert await reading.read() == {(INPUT, 1): 50}
        reading.give(0, 60, topic=CHANGELOG)  # restored, not taken into the room
        assert await reading.read() == {(CHANGELOG, 0): 60}
        room.leave(0, [1] * 100)
        assert await reading.read() == {(INPUT, 0): 50}

    asyncio.run(work())


def test_a_read_takes_so_many_records_at_most() -> None:
    async def work() -> None:
        for room in (None, FairRoom(10_000, 10**6)):
            reading = Reading(room)
            reading.give(0, 1000)
            assert await reading.read() == {(INPUT, 0): MAX}
            assert await reading.read() == {(INPUT, 0): 1000 - MAX}

    asyncio.run(work())


def test_a_read_that_waits_hears_of_room_and_of_records_at_once() -> None:
    async def work() -> None:
        started = time.monotonic()
        room = filled(shared(), 0, [1] * 100)
        reading = Reading(room)
        room.freed = reading.thread.look_again
        reading.give(0, 50)
        waiting = asyncio.ensure_future(reading.read(LONG))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        room.leave(0, [1] * 100)
        assert await waiting == {(INPUT, 0): 50}
        filled(room, 0, [1] * 100)
        waiting = asyncio.ensure_future(reading.read(LONG))
        await asyncio.sleep(0.01)
        reading.give(1, 5)
        assert await waiting == {(INPUT, 1): 5}
        assert time.monotonic() - started < LONG / 2

    asyncio.run(work())


def test_nothing_is_read_of_partitions_that_went_away_meanwhile() -> None:
    async def work() -> None:
        reading = Reading(shared())
        reading.give(0, 50)
        reading.active.clear()
        assert await reading.read(0.01) == {}

    asyncio.run(work())
