from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.errors import FatalError
from pipeline.runtime.lane_states import LaneStates
from schemas.codec import Codec
from schemas.records import LaneState
from tests.fakes import CALL, Call, run, said, stages

CODEC = Codec()


class Changelog:
    """The changelog topic as a list; sends are acknowledged when ``acknowledge`` is called, or at once (``is_prompt``)."""

    def __init__(self) -> None:
        self.is_prompt = False
        self.sent: list[tuple[bytes, bytes | None, int]] = []
        self.futures: list[asyncio.Future[None]] = []

    async def send(self, *, key: bytes, value: bytes | None, partition: int) -> asyncio.Future[None]:
        self.sent.append((key, value, partition))
        self.futures.append(asyncio.get_running_loop().create_future())
        if self.is_prompt:
            self.futures[-1].set_result(None)
        return self.futures[-1]

    async def reached(self, count: int) -> None:
        """Return when ``count`` values were sent; the task that sends only needs turns of the loop."""
        for _ in range(1_000):
            if len(self.futures) >= count:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"{len(self.futures)} of {count} values were sent")

    def acknowledge(self) -> None:
        for future in self.futures:
            future.set_result(None)


class Data(dict[bytes, bytes]):
    """A restored store, with the partition of every key as Faust keeps it."""

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        super().__init__(values or {})
        self._key_partition = dict.fromkeys(self, 2)


class Table:
    """What of a Faust table `LaneStates` uses."""

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        self.data = Data(values)
        self.changelog_topic = Changelog()


def recorded() -> dict[int, LaneState]:
    call = Call(script={0: said("one", at=0.3), 1: ()}, seconds=2.0)
    return {s.channel: s for effects in run(stages(call)["vad"], call.records()) for s in effects.states}


def restored(states: dict[int, LaneState]) -> Table:
    return Table({f"{s.call_id}/{s.channel}".encode(): CODEC.encode(s) for s in states.values()})


def test_what_the_changelog_holds_is_given_back() -> None:
    states = recorded()
    assert LaneStates(restored(states), CODEC).of_call(CALL) == states
    assert LaneStates(restored(states), CODEC).of_call("another") == {}


def test_without_the_control_lane_a_call_is_unknown() -> None:
    states = recorded()
    del states[-1]
    assert LaneStates(restored(states), CODEC).of_call(CALL) == {}


def test_a_state_is_recorded_when_the_broker_has_acknowledged_it() -> None:
    states = recorded()

    async def work() -> None:
        table = Table()
        lane_states = LaneStates(table, CODEC)
        task = asyncio.ensure_future(lane_states.record(5, states.values()))
        await table.changelog_topic.reached(len(states))
        await asyncio.sleep(0)
        assert not task.done()
        table.changelog_topic.acknowledge()
        await task
        assert {(key, partition) for key, _, partition in table.changelog_topic.sent} == {
            (f"{CALL}/{channel}".encode(), 5) for channel in states
        }
        assert lane_states.of_call(CALL) == states
        lane_states.forget_cache()
        assert lane_states.of_call(CALL) == {}

    asyncio.run(work())


def test_a_state_that_was_not_acknowledged_is_an_error() -> None:
    async def work() -> None:
        table = Table()
        task = asyncio.ensure_future(LaneStates(table, CODEC).record(0, recorded().values()))
        await table.changelog_topic.reached(3)
        table.changelog_topic.futures[0].set_exception(TimeoutError("no broker"))
        for future in table.changelog_topic.futures[1:]:
            future.set_result(None)
        with pytest.raises(TimeoutError):
            await task

    asyncio.run(work())


def test_deleting_writes_a_tombstone_for_every_lane_and_control_last() -> None:
    """It is by the control lane that the others are found: a crash between two tombstones must not hide them."""

    async def work() -> None:
        table = restored(recorded())
        keys = set(table.data)
        lane_states = LaneStates(table, CODEC)
        table.changelog_topic.is_prompt = True
        await lane_states.delete(2, CALL)
        assert {key: value for key, value, _ in table.changelog_topic.sent} == dict.fromkeys(keys)
        assert table.changelog_topic.sent[-1][0] == f"{CALL}/-1".encode()
        assert lane_states.of_call(CALL) == {}
        assert not lane_states._cache

    asyncio.run(work())


def test_ended_calls_are_found_again() -> None:
    states = recorded()
    ended = states[-1].ended_offset
    assert ended is not None
    assert list(LaneStates(restored(states), CODEC).ended()) == [(2, CALL, ended)]
    live: dict[int, Any] = states | {-1: replace(states[-1], ended_offset=None)}
    assert list(LaneStates(restored(live), CODEC).ended()) == []


@pytest.mark.parametrize("damage", ["bytes", "version"])
def test_a_value_that_cannot_be_read_is_fatal(damage: str) -> None:
    states = recorded()
    table = restored(states | {-1: replace(states[-1], version=99)} if damage == "version" else states)
    if damage == "bytes":
        table.data[f"{CALL}/-1".encode()] = b"\0\0\0\0\0"
    with pytest.raises(FatalError, match="changelog"):
        LaneStates(table, CODEC).of_call(CALL)
