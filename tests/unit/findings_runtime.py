"""Failing tests: inference, lane states, settings."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import FatalError, UsageError
from pipeline.core.flow import CallFlow
from pipeline.runtime import settings
from pipeline.runtime.inference import Inference
from pipeline.runtime.lane_states import LaneStates
from schemas.codec import Codec
from schemas.records import LaneState
from tests.fakes import Call, run, said, stages

CALL = Call(script={0: said("one two.", at=0.4)}, seconds=2.0)


# -- inference -------------------------------------------------------------------------------------------------------


class Short:
    """An engine with a fault: it loses an item of every batch."""

    def infer(self, batch: Sequence[int]) -> list[int]:
        return list(batch)[1:]


def outcome(wait: Coroutine[Any, Any, Any]) -> Any:
    """Return what ``wait`` returns or raises within a second."""

    async def bounded() -> Any:
        return await asyncio.wait_for(wait, 1.0)

    try:
        return asyncio.run(bounded())
    except Exception as error:
        return error


def test_an_engine_that_loses_an_item_is_heard_of() -> None:
    """The task that serves dies unseen (`zip(strict=True)` outside the try); the call waits for ever, and so does the next."""

    async def ask() -> int:
        inference: Inference[int, int] = Inference(Short(), threads=1, max_batch=1, max_wait_ms=0)
        inference.start()
        try:
            return await inference.infer(1)
        finally:
            await inference.stop()

    assert not isinstance(outcome(ask()), TimeoutError)


def test_who_waits_when_inference_stops_is_told() -> None:
    async def ask() -> int:
        inference: Inference[int, int] = Inference(Short(), threads=1, max_batch=4, max_wait_ms=60_000)
        inference.start()
        waiting = asyncio.ensure_future(inference.infer(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await inference.stop()
        return await waiting

    assert not isinstance(outcome(ask()), TimeoutError)


# -- lane states -----------------------------------------------------------------------------------------------------


class Changelog:
    """The changelog topic as a list."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes | None]] = []

    async def send(self, *, key: bytes, value: bytes | None, partition: int) -> asyncio.Future[None]:
        self.sent.append((key, value))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Table:
    """What of a Faust table `LaneStates` uses."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.changelog_topic = Changelog()


def recorded() -> list[LaneState]:
    return [state for effects in run(stages(CALL)["vad"], CALL.records()) for state in effects.states]


def test_the_control_lane_is_deleted_last() -> None:
    """A crash between two tombstones: without the control lane the others are never found again, and stay for ever.
    They would also be taken for states of a later call with the same id."""
    table = Table()

    async def work() -> None:
        states = LaneStates(table, Codec())
        await states.record(0, recorded())
        await states.delete(0, CALL.call_id)

    asyncio.run(work())
    assert [key for key, value in table.changelog_topic.sent if value is None][-1] == b"call-1/-1"


def test_deleted_calls_leave_nothing_in_memory() -> None:
    states = LaneStates(Table(), Codec())

    async def work() -> None:
        await states.record(0, recorded())
        await states.delete(0, CALL.call_id)

    asyncio.run(work())
    assert not states._cache


def test_a_state_of_a_logic_that_is_not_known_is_fatal() -> None:
    """Contract of `LaneLogic.restore`: raises FatalError when the state was written by an unknown version."""
    states = {state.channel: state for state in recorded()}
    for name in ("vad", "asr", "diarize", "assemble"):
        stage = stages(CALL)[name]
        with pytest.raises(FatalError):
            _flow(stage, states | {0: _spoilt(states[0])})


def _flow(stage: Any, states: dict[int, LaneState]) -> CallFlow[Any, Any, Any]:
    flow: CallFlow[Any, Any, Any] = stage.flow(states)
    return flow


def _spoilt(state: LaneState) -> LaneState:
    return replace(state, logic=b"\xff" * 3)


# -- settings --------------------------------------------------------------------------------------------------------


def test_an_unknown_section_is_refused_even_when_it_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "callscribe.toml"
    file.write_text("[kafak]\n", encoding="utf-8")
    with pytest.raises(UsageError, match="kafka"):
        settings.load(config=file, environment={})


def test_an_origin_is_the_name_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "production.conf"
    file.write_text("[vad]\nthreshold = 0.6\n", encoding="utf-8")
    assert settings.load(config=file, environment={}).origins == {"vad.threshold": "production.conf"}


def test_thresholds_that_make_no_hysteresis_are_refused() -> None:
    with pytest.raises(UsageError):
        settings.load(environment={"CALLSCRIBE_VAD__THRESHOLD": "0.3", "CALLSCRIBE_VAD__NEGATIVE_THRESHOLD": "0.6"})
