from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.core.entries import STATE_VERSION
from pipeline.core.errors import FailedError, FatalError
from pipeline.runtime.lane_states import SLICE, Known, LaneStates, Progress
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
        self.headers: list[Mapping[str, bytes]] = []
        self.outcome: asyncio.Future[None] | None = None

    def burst(self) -> Changelog:
        return self

    async def put(
        self,
        topic: str,
        *,
        key: bytes,
        value: bytes | None,
        partition: int,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        assert topic == TOPIC
        self.headers.append(headers or {})
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

    def apply_changelog_batch(self, batch: Iterable[Any], **codecs: Any) -> None:
        for event in batch:
            if event.message.value is None:
                self.pop(event.key, None)
            else:
                self[event.key] = event.message.value


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


def test_of_an_ended_call_a_mark_stays_and_the_control_lane_goes_last() -> None:
    """It is by the control lane that the others are found: a crash between two tombstones must not hide them."""

    async def work() -> None:
        states = recorded()
        table, changelog = restored(states), Changelog()
        changelog.is_prompt = True
        lane_states = lane_states_of(table, changelog)
        await lane_states.mark_ended(2, CALL, 7)
        *others, (key, value, partition) = changelog.sent
        assert {key: value for key, value, _ in others} == dict.fromkeys([b"call-1/0", b"call-1/1"])
        assert (key, partition) == (f"{CALL}/-1".encode(), 2)
        assert value is not None
        mark = CODEC.decode(value, LaneState)
        assert mark == replace(
            states[-1], started=None, feed_epochs=(), generation=7
        )  # it stood for the others already
        assert len(value) < len(CODEC.encode(states[-1]))
        assert Progress.parse(changelog.headers[-1].items()) == Progress.of(mark)
        assert not Progress.of(mark).is_stale(Progress.of(states[-1]))
        assert lane_states.of_call(CALL) == lane_states_of(Table({key: value})).of_call(CALL) == {-1: mark}
        assert not lane_states._cache

        await lane_states.delete(2, [CALL])
        assert changelog.sent[-1] == (key, None, 2)
        assert lane_states.of_call(CALL) == {}

    asyncio.run(work())


def test_ended_calls_are_found_again() -> None:
    states = recorded()
    assert states[-1].ended_offset is not None
    assert known_of(states) == [Known(2, CALL, states[-1].ended_offset, False, "live", states[-1].released_offset)]
    mark = {-1: replace(states[-1], started=None)}
    assert known_of(mark) == [Known(2, CALL, states[-1].ended_offset, True, "live", states[-1].released_offset)]


def known_of(states: dict[int, LaneState]) -> list[Known]:
    lane_states = lane_states_of(restored(states))
    asyncio.run(lane_states.load())
    return list(lane_states.calls())


def test_many_marks_are_looked_through_in_turns_with_the_rest_of_the_process() -> None:
    """A worker whose loop stands still for half a session takes itself for a zombie, and its successor would do the same."""
    mark = CODEC.encode(replace(recorded()[-1], started=None))
    table = Table({f"{CALL}-{number}/-1".encode(): mark for number in range(10 * SLICE)})

    async def work() -> None:
        lane_states, turns = lane_states_of(table), 0
        loading = asyncio.ensure_future(lane_states.load())
        while not loading.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 10
        assert len(list(lane_states.calls())) == 10 * SLICE

    asyncio.run(work())


@pytest.mark.parametrize("channel", [-1, 0, 1])
def test_a_state_of_a_newer_version_stops_the_worker_before_anything_is_given(channel: int) -> None:
    states = recorded()
    states[channel] = replace(states[channel], version=STATE_VERSION + 1)
    with pytest.raises(
        FatalError, match=f"newer version .state version {STATE_VERSION + 1}, this one reads {STATE_VERSION}"
    ):
        known_of(states)


async def written(states: Sequence[LaneState]) -> list[SimpleNamespace]:
    """Return the records of the changelog when ``states`` are written in this order."""
    changelog = Changelog()
    changelog.is_prompt = True
    await lane_states_of(Table(), changelog).record(2, states)
    return [
        SimpleNamespace(key=key, message=SimpleNamespace(value=value, headers=list(headers.items())))
        for (key, value, _), headers in zip(changelog.sent, changelog.headers, strict=True)
    ]


def lane(generation: int, sequence: int, released: int) -> LaneState:
    state = recorded()[0]
    position = replace(state.positions[0], needed_sequence=sequence, next_sequence=sequence)
    return replace(state, generation=generation, positions=(position,), released_offset=released)


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        ([lane(4, 10, 100), lane(5, 20, 200), lane(4, 12, 120)], 1),  # a worker that stood still
        ([lane(5, 20, 200), lane(5, 12, 120)], 0),  # the same, and its successor is a static member
        ([lane(5, 20, 200), lane(5, 20, 200)], 1),  # a repeat
        ([lane(5, 20, 200), lane(6, 3, 250)], 1),  # another call of that name, later
        ([lane(5, 20, 200), lane(5, 3, 250)], 1),  # the same, without a rebalance in between
        ([lane(5, 20, 200), lane(6, 25, 3)], 1),  # the input topic was made again
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_restoration_takes_no_step_back(states: list[LaneState], kept: int, size: int) -> None:
    table = Table()
    lane_states = lane_states_of(table)
    records = asyncio.run(written(states))
    for at in range(0, len(records), size):
        table.data.apply_changelog_batch(records[at : at + size])
        lane_states.forget_cache()  # as between two rebalances
    (value,) = table.data.values()
    assert CODEC.decode(value, LaneState) == states[kept]


def test_a_stale_state_does_not_bring_back_a_deleted_call() -> None:
    table = Table()
    lane_states_of(table)
    newest, stale = asyncio.run(written([lane(5, 20, 200), lane(4, 12, 120)]))
    tombstone = SimpleNamespace(key=newest.key, message=SimpleNamespace(value=None, headers=[]))
    table.data.apply_changelog_batch([newest, tombstone, stale])
    assert not table.data


@pytest.mark.parametrize("damage", ["bytes", "version"])
def test_a_value_that_cannot_be_read_is_fatal(damage: str) -> None:
    states = recorded()
    table = restored(states | {-1: replace(states[-1], version=99)} if damage == "version" else states)
    if damage == "bytes":
        table.data[f"{CALL}/-1".encode()] = b"\0\0\0\0\0"
    with pytest.raises(FatalError, match="changelog"):
        lane_states_of(table).of_call(CALL)
