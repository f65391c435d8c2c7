from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.errors import FailedError, FatalError
from pipeline.runtime.lane_states import LaneStates
from schemas.codec import Codec
from schemas.records import LaneState
from tests.fakes import CALL, Call, run, said, stages

CODEC = Codec()


TOPIC = "states-changelog"


class Changelog:
    """The changelog topic as a list, behind the outbox's interface; sends are acknowledged when ``outcome`` is set, or at once
    (``is_prompt``)."""

    def __init__(self) -> None:
        self.is_prompt = False
        self.sent: list[tuple[bytes, bytes | None, int]] = []
        self.outcome: asyncio.Future[None] | None = None

    def burst(self) -> Changelog:
        return self

    async def put(self, topic: str, *, key: bytes, value: bytes | None, partition: int) -> None:
        assert topic == TOPIC
        self.sent.append((key, value, partition))

    async def delivered(self) -> None:
        if not self.is_prompt:
            self.outcome = asyncio.get_running_loop().create_future()
            await self.outcome

    async def waited_for(self) -> asyncio.Future[None]:
        """Return the outcome once somebody waits for it; the task that sends only needs turns of the loop."""
        for _ in range(1_000):
            if self.outcome is not None:
                return self.outcome
            await asyncio.sleep(0)
        raise AssertionError("nobody waits")


class Data(dict[bytes, bytes]):
    """A restored store, with the partition of every key as Faust keeps it."""

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        super().__init__(values or {})
        self._key_partition = dict.fromkeys(self, 2)


class Table:
    """What of a Faust table `LaneStates` uses."""

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        self.data = Data(values)


def lane_states_of(table: Table, changelog: Changelog | None = None) -> LaneStates:
    return LaneStates(table, TOPIC, changelog or Changelog(), CODEC)


def recorded() -> dict[int, LaneState]:
    call = Call(script={0: said("one", at=0.3), 1: ()}, seconds=2.0)
    return {s.channel: s for effects in run(stages(call)["vad"], call.records()) for s in effects.states}


def restored(states: dict[int, LaneState]) -> Table:
    return Table({f"{s.call_id}/{s.channel}".encode(): CODEC.encode(s) for s in states.values()})


def test_what_the_changelog_holds_is_given_back() -> None:
    states = recorded()
    assert lane_states_of(restored(states)).of_call(CALL) == states
    assert lane_states_of(restored(states)).of_call("another") == {}


def test_without_the_control_lane_a_call_is_unknown() -> None:
    states = recorded()
    del states[-1]
    assert lane_states_of(restored(states)).of_call(CALL) == {}


def test_a_state_is_recorded_when_the_broker_has_acknowledged_it() -> None:
    states = recorded()

    async def work() -> None:
        changelog = Changelog()
        lane_states = lane_states_of(Table(), changelog)
        task = asyncio.ensure_future(lane_states.record(5, states.values()))
        outcome = await changelog.waited_for()
        await asyncio.sleep(0)
        assert not task.done()
        outcome.set_result(None)
        await task
        assert {(key, partition) for key, _, partition in changelog.sent} == {
            (f"{CALL}/{channel}".encode(), 5) for channel in states
        }
        assert lane_states.of_call(CALL) == states
        lane_states.forget_cache()
        assert lane_states.of_call(CALL) == {}

    asyncio.run(work())


def test_a_state_that_was_not_acknowledged_is_an_error() -> None:
    async def work() -> None:
        changelog = Changelog()
        task = asyncio.ensure_future(lane_states_of(Table(), changelog).record(0, recorded().values()))
        (await changelog.waited_for()).set_exception(FailedError("no broker"))
        with pytest.raises(FailedError):
            await task

    asyncio.run(work())


def test_deleting_writes_a_tombstone_for_every_lane_and_control_last() -> None:
    """It is by the control lane that the others are found: a crash between two tombstones must not hide them."""

    async def work() -> None:
        table = restored(recorded())
        keys = set(table.data)
        changelog = Changelog()
        changelog.is_prompt = True
        lane_states = lane_states_of(table, changelog)
        await lane_states.delete(2, CALL)
        assert {key: value for key, value, _ in changelog.sent} == dict.fromkeys(keys)
        assert changelog.sent[-1][0] == f"{CALL}/-1".encode()
        assert lane_states.of_call(CALL) == {}
        assert not lane_states._cache

    asyncio.run(work())


def test_ended_calls_are_found_again() -> None:
    states = recorded()
    ended = states[-1].ended_offset
    assert ended is not None
    assert list(lane_states_of(restored(states)).ended()) == [(2, CALL, ended)]
    live: dict[int, Any] = states | {-1: replace(states[-1], ended_offset=None)}
    assert list(lane_states_of(restored(live)).ended()) == []


@pytest.mark.parametrize("damage", ["bytes", "version"])
def test_a_value_that_cannot_be_read_is_fatal(damage: str) -> None:
    states = recorded()
    table = restored(states | {-1: replace(states[-1], version=99)} if damage == "version" else states)
    if damage == "bytes":
        table.data[f"{CALL}/-1".encode()] = b"\0\0\0\0\0"
    with pytest.raises(FatalError, match="changelog"):
        lane_states_of(table).of_call(CALL)
