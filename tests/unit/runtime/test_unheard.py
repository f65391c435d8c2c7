"""Calls of which nothing is heard: who is closed, who is ended, and who is left alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.core.errors import NotReadyError
from pipeline.runtime import unheard as module
from pipeline.runtime.call_state import Standing
from pipeline.runtime.lane_states import Known
from pipeline.runtime.served import Ending, ServedCall
from pipeline.runtime.settings import Settings
from pipeline.runtime.unheard import Unheard
from schemas.codec import Codec
from schemas.records import CallState

ENDS = {"0": 32_000}


@dataclass
class Flow:
    """What of a call's flow is asked. Its closing record is its name."""

    call_id: str
    is_ended: bool = False
    is_quiet: bool = False
    started: Any = "started"
    feed_epoch: int = 1
    is_paused: bool = False

    def idle_record(self, *, is_paused_too: bool) -> Any:
        return self.call_id if is_paused_too or not self.is_paused else None


@dataclass
class Worker:
    """A worker with one partition, which holds offsets from ``held[0]`` to below ``held[1]`` and was read to below ``next``."""

    has_clock: bool = True
    held: tuple[int, int] = (0, 10)
    next: int = 10
    standings: dict[str, Standing] = field(default_factory=dict)
    generation: int = 1
    calls: dict[str, ServedCall] = field(default_factory=dict)
    endings: dict[str, Ending] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None  # happens while call.state is read

    def __post_init__(self) -> None:
        self.unheard = Unheard(
            Settings(),
            SimpleNamespace(held=self._held),  # type: ignore[arg-type]
            SimpleNamespace(write_input=self._write),  # type: ignore[arg-type]
            Codec(),
            has_clock=self.has_clock,
            call_of=lambda call_id, partition: self.calls[call_id],
            end=lambda call, ending: self.endings.update({call.call_id: ending}),
            next_of=lambda partition: self.next,
            is_over=lambda generation: generation != self.generation,
        )
        self.now = 1_000.0
        self.unheard._silence = module.Silence(clock=lambda: self.now)

    async def _held(self) -> dict[int, tuple[int, int]]:
        return {0: self.held}

    async def _write(self, record: Any, partition: int) -> None:
        self.written.append(record)

    def hears(self, call_id: str, offset: int, **flow: Any) -> None:
        self.calls[call_id] = ServedCall(call_id, 0, Flow(call_id, **flow))  # type: ignore[arg-type]
        self.unheard.hear(self.calls[call_id], offset, is_heard=True)

    def look(self, *, generation: int = 1) -> None:
        asyncio.run(self.unheard.end_deleted(generation))

    def sweep(self, *, seconds: float) -> None:
        self.now += seconds
        asyncio.run(self.unheard.close_silent(1))


def standing(state: str = "complete", *, epoch: int = 1, read: bool = False, age: float = 0.0) -> Standing:
    time_ms = round((time.time() - age) * 1000)
    said = CallState(call_id="c", state=state, feed_epoch=epoch, time_ms=time_ms, end_samples=ENDS)
    return Standing(said, 0, said if read else None)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Worker]:
    """Return what makes a worker whose call.state says ``standings``."""

    def make(**values: Any) -> Worker:
        worker = Worker(**values)

        def read(settings: Settings, call_ids: Collection[str], *, codec: Codec) -> dict[str, Standing | None]:
            worker.asked += call_ids
            worker.meanwhile()
            return {call_id: worker.standings.get(call_id) for call_id in call_ids}

        monkeypatch.setattr(module, "read_standings", read)
        return worker

    return make


Make = Callable[..., Worker]


def test_a_complete_call_that_was_deleted_is_ended_behind_what_was_heard_of_it(made: Make) -> None:
    worker = made(held=(8, 10), standings={"c": standing(epoch=2)})
    worker.hears("c", 7)
    worker.hears("there", 9)
    worker.look()
    assert worker.endings == {"c": Ending(offset=7, end_samples={0: 32_000}, reason="completed", epoch=2)}
    assert worker.asked == ["c"]


def test_a_topic_that_was_made_again_holds_nothing_of_the_call(made: Make) -> None:
    worker = made(held=(0, 3), next=3, standings={"c": standing()})
    worker.hears("c", 7)
    worker.look()
    assert list(worker.endings) == ["c"]


@pytest.mark.parametrize(
    ("hidden", "reason"),
    [
        ({"next": 9}, "a record is not read yet"),
        ({"generation": 2}, "the partitions are somebody else's"),
        ({"standings": {}, "has_clock": False}, "nothing is known of it"),
        ({"standings": {"c": standing("live")}}, "its feed may speak"),
        ({"has_clock": False}, "vad has not read it to its end"),
    ],
)
def test_a_call_is_left_alone(made: Make, hidden: dict[str, Any], reason: str) -> None:
    worker = made(**({"held": (8, 10), "standings": {"c": standing()}} | hidden))
    worker.hears("c", 7)
    worker.look()
    assert worker.endings == {}, reason


def test_a_call_with_records_in_work_is_left_alone(made: Make) -> None:
    worker = made(held=(8, 10), standings={"c": standing()})
    worker.hears("c", 7)
    worker.calls["c"].inside.append(1)
    worker.look()
    assert worker.endings == {}


def test_a_stage_without_a_clock_goes_by_what_vad_says(made: Make) -> None:
    worker = made(held=(8, 10), has_clock=False, standings={"c": standing(read=True), "off": standing("interrupted")})
    worker.hears("c", 7)
    worker.hears("off", 7, is_quiet=True)  # vad will end it
    worker.look()
    assert list(worker.endings) == ["c"]


@pytest.mark.parametrize("is_restored", [False, True])
def test_an_interrupted_call_is_ended_if_nobody_has_taken_it(made: Make, is_restored: bool) -> None:
    said = {"off": standing("interrupted"), "back": standing("live", epoch=2)}
    worker = made(held=(8, 10), standings=said)
    for call_id in said:
        worker.hears(call_id, 7, is_quiet=True)
    if is_restored:
        worker.unheard.clear()
        worker.unheard.restart(Known(0, call_id, None, False, "interrupted", 7) for call_id in said)
    worker.look()
    assert worker.endings == {"off": Ending(offset=7, end_samples={0: 32_000}, reason="interrupted", epoch=1)}


def test_where_the_feed_has_spoken_last_time_tells_that_vad_has_read(made: Make) -> None:
    worker = made(held=(8, 10), has_clock=False, standings={"c": standing(age=8 * 24 * 3600)})
    worker.hears("c", 7)
    worker.look()
    assert list(worker.endings) == ["c"]


def test_a_call_that_speaks_while_call_state_is_read_is_left_alone(made: Make) -> None:
    worker = made(held=(8, 10), next=12, standings={"off": standing("interrupted")})
    worker.hears("off", 7, is_quiet=True)

    def speaks() -> None:
        worker.held = (8, 12)
        worker.hears("off", 11, is_quiet=True)

    worker.meanwhile = speaks
    worker.look()
    assert worker.endings == {}


def test_a_call_that_is_live_again_is_left_alone(made: Make) -> None:
    worker = made(held=(8, 10), standings={"back": standing("live", epoch=1)})
    worker.hears("back", 7, is_quiet=True)
    worker.look()
    assert worker.endings == {}


def test_a_call_that_cannot_be_ended_is_asked_for_less_and_less_often(made: Make) -> None:
    worker = made(held=(8, 10), standings={"c": standing("live")})
    worker.hears("c", 7)
    for _ in range(64):
        worker.look()
    assert len(worker.asked) <= 8
    worker.hears("c", 7)
    worker.look()
    assert len(worker.asked) <= 9


def test_call_state_that_cannot_be_read_ends_nothing_and_closes_who_is_silent(made: Make) -> None:
    worker = made(held=(8, 10), standings={"c": standing()})
    worker.hears("c", 7)

    def fails() -> None:
        raise NotReadyError("topic call.state: the broker is away")

    worker.meanwhile = fails
    worker.look()
    assert worker.endings == {}
    worker.sweep(seconds=0)
    worker.sweep(seconds=61)
    assert worker.written == ["c"]


def test_a_silent_feed_is_closed_and_a_complete_call_is_ended(made: Make) -> None:
    worker = made(standings={"done": standing()})
    for call_id in ("c", "done"):
        worker.hears(call_id, 9)
    worker.sweep(seconds=0)
    worker.sweep(seconds=59)
    assert worker.written == worker.asked == []
    worker.sweep(seconds=2)
    assert worker.written == ["c"]
    assert list(worker.endings) == ["done"]


def test_nobody_is_closed_before_it_is_known_what_there_is_to_be_read(made: Make) -> None:
    worker = made(held=(0, 100))
    worker.hears("c", 9)
    worker.sweep(seconds=61)
    worker.sweep(seconds=61)
    assert worker.written == []


def test_a_feed_that_speaks_while_call_state_is_read_is_not_closed(made: Make) -> None:
    worker = made()
    worker.hears("c", 9)
    worker.sweep(seconds=0)
    worker.meanwhile = lambda: worker.hears("c", 10)
    worker.sweep(seconds=61)
    assert worker.asked == ["c"]
    assert worker.written == []


def test_nobody_asks_for_a_paused_feed_that_may_be_silent(made: Make) -> None:
    worker = made(standings={"c": standing()})
    worker.hears("c", 9, is_paused=True)
    worker.sweep(seconds=0)
    worker.sweep(seconds=61)
    assert worker.asked == []
    worker.sweep(seconds=Settings().ingest.paused_idle_seconds)
    assert worker.written == []
    assert list(worker.endings) == ["c"]


@pytest.mark.parametrize("flow", [{"started": None}, {"is_ended": True}])
def test_nothing_is_kept_of_a_call_that_has_ended_or_never_started(made: Make, flow: dict[str, Any]) -> None:
    worker = made()
    worker.hears("c", 3)
    worker.hears("c", 4, **flow)
    assert worker.unheard._last == {}
    worker.sweep(seconds=0)
    worker.sweep(seconds=61)
    assert worker.written == []
