"""What is left of a lane whose record the voice activity model does not survive: a gap, and a lane that goes on behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.passing import CRASHED
from pipeline.vad.logic import VadLogic
from pipeline.vad.state import VadState
from schemas.records import CallSpeech
from tests.fakes import VAD, Call, outputs_of, run, said, stages
from tests.unit.vad.test_logic import RATES, utterances

SECONDS = 6.0


def spoken(rate: int = 8_000, **changes: Any) -> Call:
    return Call(script={0: said("one two three four five six", at=1.0)}, seconds=SECONDS, rate=rate, **changes)


def made(call: Call, *condemned: int) -> list[CallSpeech]:
    """Return what vad writes for lane 0 when the records at these offsets are condemned."""
    stage = replace(stages(call)["vad"], condemned=frozenset(condemned))
    return [record for record in outputs_of(run(stage, call.records())) if record.channel == 0]


def gaps(records: list[CallSpeech]) -> list[tuple[int, int, str]]:
    return [(one.start_sample, one.gap.end_sample, one.gap.reason) for one in records if one.gap is not None]


@RATES
def test_in_an_utterance_what_was_sent_stays_and_the_rest_is_a_gap(rate: int) -> None:
    call = spoken(rate)
    record = call.records()[8]  # from 1.4 to 1.6 s
    found = made(call, 8)
    ((start, end, reason),) = gaps(found)
    assert (end, reason) == (record.start_sample + rate // 5, CRASHED)
    first, second = utterances(found)
    assert first[1] == start
    assert 1.0 * rate < start <= record.start_sample
    assert second[0] >= end
    at = next(index for index, one in enumerate(found) if one.gap is not None)
    assert found[at - 1].speech is not None
    assert (found[at - 1].speech.is_last, found[at - 1].speech.audio) == (True, b"")
    mark = next(one for one in found if one.degraded is not None)
    assert mark.start_sample == record.start_sample


@RATES
def test_in_silence_a_gap_begins_where_silence_is_known(rate: int) -> None:
    call = replace(spoken(rate), script={0: ()})
    found = made(call, 12)
    ((start, end, reason),) = gaps(found)
    record = call.records()[12]
    assert record.start_sample - rate * 512 // 16_000 - 16 <= start <= record.start_sample
    assert (end, reason) == (record.start_sample + rate // 5, CRASHED)
    assert utterances(found) == []


def test_the_first_record_of_a_call_is_a_gap() -> None:
    assert gaps(made(spoken(), 1)) == [(0, 1_600, CRASHED)]


def test_a_leg_that_joins_late_has_no_gap_before_its_first_record() -> None:
    assert gaps(made(spoken(offsets={0: 1.2}), 1)) == [(9_600, 11_200, CRASHED)]


def test_a_hole_before_the_record_keeps_its_name() -> None:
    call = spoken()
    log = [record for record in call.records() if not (record.channel == 0 and record.sequence == 8)]
    log = [replace(one, sequence=one.sequence - (one.channel == 0 and one.sequence > 8)) for one in log]
    stage = replace(stages(call)["vad"], condemned=frozenset({9}))
    found = gaps([record for record in outputs_of(run(stage, log)) if record.channel == 0])
    assert [reason for *_, reason in found] == [CRASHED, "missing_audio", CRASHED]
    assert [(start, end) for start, end, _ in found][1:] == [(12_800, 14_400), (14_400, 16_000)]
    assert found[0][1] == 12_800


@pytest.mark.parametrize("kind", ["pause", "ended"])
def test_a_control_record_closes_what_is_open_without_asking(kind: str) -> None:
    call = spoken(controls=((1.5, "pause", {}), (2.5, "resume", {})))
    log = call.records()
    at = next(at for at, record in enumerate(log) if record.kind == "pause")
    if kind == "ended":
        log = [*log[:at], replace(log[-1], sequence=log[at].sequence)]
    stage = replace(stages(call)["vad"], condemned=frozenset({at}))
    found = [record for record in outputs_of(run(stage, log)) if record.channel == 0]
    (start, end, reason), *_ = gaps([record for record in found if record.kind == "gap"])
    assert (end, reason) == (12_000, CRASHED)
    assert utterances(found)[0][1] == start
    assert {one.gap.end_sample for one in found if one.gap is not None and one.start_sample == 12_000} == (
        {20_000} if kind == "pause" else {48_000}
    )


def test_a_lane_can_be_resumed_behind_what_it_lost() -> None:
    call, logic = spoken(), VadLogic(VAD)
    log = [record for record in call.records() if record.channel == 0]
    state = opened(logic, call)
    for record in log[:3]:
        state = logic.plan(state, record).state
    step = logic.abandon(state, log[3])
    assert step.work is None
    snapshot = logic.snapshot(step.state)
    assert snapshot is not None
    assert snapshot.needed_sequence is None
    assert step.state.audio_end == log[4].start_sample


def opened(logic: VadLogic, call: Call) -> VadState:
    flow = stages(call)["vad"].flow()
    list(flow.feed(call.records()[0], 0))
    return logic.open(flow.channels[0])
