"""A stage that dies between any two effects, and starts again from its changelog, writes what it would have written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Hold, Interrupted, Settings
from tests.fakes import Call, run_chain, said, stages
from tests.property.durable import BOUNDED, Crash, assert_same, by_lane, calls, crashes, disturbed_chain, undisturbed

PLAIN = {0: said("one two three.", at=0.4), 1: said("four", at=1.0) + said("five six.", at=2.2)}

CONTROLS: dict[str, dict[str, Any]] = {
    "hold": {"hold": Hold(active=True)},
    "settings": {"settings": Settings(language="de", prompt="names", hot_words=("x",))},
    "clear": {},
    "pause": {},
    "resume": {},
    "interrupted": {"interrupted": Interrupted(reason="idle")},
    "unheard_of": {},
}


@BOUNDED
@given(call=calls(controls=CONTROLS), schedule=crashes(), record_seconds=st.sampled_from([0.02, 0.1, 0.2, 1.0]))
def test_vad(call: Call, schedule: list[Crash], record_seconds: float) -> None:
    assert_same(stages(call)["vad"], call.records(record_seconds), schedule)


@BOUNDED
@given(call=calls(controls=CONTROLS), schedule=crashes())
def test_asr(call: Call, schedule: list[Crash]) -> None:
    assert_same(stages(call)["asr"], run_chain(call).outputs["vad"], schedule)


@BOUNDED
@given(call=calls(controls=CONTROLS), schedule=crashes())
def test_diarize(call: Call, schedule: list[Crash]) -> None:
    assert_same(stages(call)["diarize"], run_chain(call).outputs["vad"], schedule)


@BOUNDED
@given(call=calls(controls=CONTROLS), schedule=crashes())
def test_assemble(call: Call, schedule: list[Crash]) -> None:
    assert_same(stages(call)["assemble"], run_chain(call).annotations, schedule)


@pytest.mark.parametrize("name", ["vad", "asr", "diarize", "assemble"])
def test_between_any_two_effects(name: str) -> None:
    call = Call(script=PLAIN, seconds=4.0)
    chain = run_chain(call)
    log = {"vad": call.records(), "assemble": chain.annotations}.get(name, chain.outputs["vad"])
    expected = undisturbed(stages(call)[name], log)
    for at in range(len(log)):
        share = (0.5, 0.99, 0.0)[at % 3]
        assert_same(stages(call)[name], log, [Crash(records=at, burst=1, share=share, lag=0)], expected)


@BOUNDED
@given(call=calls(controls=CONTROLS), data=st.data())
def test_chain(call: Call, data: st.DataObject) -> None:
    workers = disturbed_chain(call, data)
    assemble = workers[-1]
    assert by_lane(assemble.topic) == by_lane(run_chain(call).segments)
    assert [worker.committed for worker in workers] == [len(worker.log) for worker in workers]
