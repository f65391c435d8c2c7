"""A mixed channel that is heard: what is said of its speakers rests on the samples alone, whatever happens to the stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Hold, Interrupted
from tests.fakes import CODEC, Call, Stage, outputs_of, run, run_chain, said, stages, step
from tests.property.durable import (
    BOUNDED,
    Crash,
    assert_same,
    by_lane,
    calls,
    crashes,
    disturbed_chain,
    once,
    undisturbed,
)
from tests.transcripts import speakers_of, transcript
from tests.voices import DIARIZE, ScriptedDiarizer

TALK = Call(
    script={0: said("one two three.", at=0.4) + said("four five six seven.", at=1.5) + said("eight nine.", at=5.2)},
    seconds=7.0,
    roles=("mixed",),
)
CONTROLS: dict[str, dict[str, Any]] = {
    "pause": {},
    "resume": {},
    "hold": {"hold": Hold(active=True)},
    "interrupted": {"interrupted": Interrupted(reason="idle")},
}


def mixed(call: Call) -> Call:
    return replace(call, roles=("mixed",) * 4)


def heard(call: Call, **changes: Any) -> dict[str, Any]:
    return {"diarize": DIARIZE, "diarizer": ScriptedDiarizer(call, **changes)}


def diarize(call: Call, **changes: Any) -> Stage:
    return stages(call, **heard(call, **changes))["diarize"]


@BOUNDED
@given(call=calls(controls=CONTROLS).map(mixed), schedule=crashes())
def test_crashes_change_nothing(call: Call, schedule: list[Crash]) -> None:
    assert_same(diarize(call), run_chain(call).outputs["vad"], schedule)


def test_a_crash_between_any_two_effects_changes_nothing() -> None:
    log = run_chain(TALK).outputs["vad"]
    expected = undisturbed(diarize(TALK), log)
    for at in range(len(log)):
        schedule = [Crash(records=at, burst=1, share=(0.5, 0.99, 0.0)[at % 3], lag=0)]
        assert_same(diarize(TALK), log, schedule, expected)


@BOUNDED
@given(call=calls(controls=CONTROLS).map(mixed), size=st.sampled_from([0.02, 0.1, 0.37, 1.0]))
def test_record_sizes_change_nothing(call: Call, size: float) -> None:
    one = run_chain(call, call.records(size), **heard(call)).segments
    other = run_chain(call, call.records(0.2), **heard(call)).segments
    assert transcript(one) == transcript(other)


@BOUNDED
@given(call=calls(controls=CONTROLS).map(mixed), data=st.data())
def test_chain(call: Call, data: st.DataObject) -> None:
    """Where a watermark or an account stands among the segments depends on who is faster, what they say does not."""
    workers = disturbed_chain(call, data, **heard(call))
    assemble = workers[-1]
    by_lane(assemble.topic)
    expected = run_chain(call, **heard(call)).segments
    assert transcript(once(assemble.topic)) == transcript(expected)
    assert speakers_of(assemble.topic) == speakers_of(expected)
    assert [one.committed for one in workers] == [len(one.log) for one in workers]


@BOUNDED
@given(call=calls(controls=CONTROLS).map(mixed), condemned=st.sets(st.integers(0, 80), min_size=1, max_size=4))
def test_records_that_kill_leave_the_rest_as_it_was(call: Call, condemned: set[int]) -> None:
    """Everything is released, the call says what was lost, and turns stay in order."""
    log = run_chain(call).outputs["vad"]
    stage = replace(diarize(call), condemned=frozenset(condemned))
    made = run(stage, log)
    assert sorted(offset for effects in made for offset in effects.released) == list(range(len(log)))
    marks = [record.degraded for record in outputs_of(made) if record.degraded and record.degraded.topic == "input"]
    assert sorted(mark.offset for mark in marks) == sorted(one for one in condemned if one < len(log))


def test_a_failing_model_never_stops_the_words() -> None:
    chain = run_chain(TALK, **heard(TALK, failing=(0.0, 99.0)))
    words = [word.text for record in chain.segments if record.segment for word in record.segment.words]
    assert words == [word.text for word in TALK.script[0]]
    assert {record.segment.speaker for record in chain.segments if record.segment} == {"unknown"}
    assert [record.degraded.reason for record in chain.segments if record.degraded] == [
        "diarization_failed:ScriptedError"
    ]


def test_words_have_their_speakers() -> None:
    chain = run_chain(TALK, **heard(TALK))
    found = [(record.segment.speaker, record.segment.text) for record in chain.segments if record.segment]
    assert found == [
        ("speaker_1", "one two three."),
        ("speaker_2", "four five six seven."),
        ("speaker_1", "eight nine."),
    ]


@pytest.mark.parametrize("minutes", [2, 10])
def test_nothing_grows_with_the_length_of_a_call(minutes: int) -> None:
    script = tuple(
        word for at in range(5, minutes * 60 - 10, 8) for word in said("six words in every one turn.", at=at)
    )
    call = Call(script={0: script}, seconds=minutes * 60.0, roles=("mixed",))
    stage, held, most, largest, longest = diarize(call), set[int](), 0, 0, 0
    flow = stage.flow()
    for offset, record in enumerate(run_chain(call).outputs["vad"]):
        effects = step(flow, stage, record, offset)
        held.add(offset)
        held -= set(effects.released)
        most = max(most, len(held))
        sizes = [len(CODEC.encode(state)) for state in effects.states if state.channel >= 0]
        largest = max([largest, *sizes])
        longest = max([longest, *(len(getattr(lane.state, "audio", ())) for lane in flow._lanes.values())])
    assert (most <= 64, largest <= 4_096, longest <= DIARIZE.window + 5 * 16_000) == (True, True, True)
    assert not held
