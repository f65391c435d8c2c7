from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.speakers import UNBOUNDED
from pipeline.stages import spec
from schemas.records import CallAnnotation
from tests.fakes import Call, outputs_of, run, run_chain, said, stages

CALL = Call(script={0: said("hello", at=0.4), 1: said("hi", at=1.0)}, seconds=2.0)


def turns_of(call: Call) -> list[CallAnnotation]:
    made = outputs_of(run(stages(call)["diarize"], run_chain(call).outputs["vad"]))
    return [record for record in made if record.turns is not None]


def test_the_channel_is_the_speaker() -> None:
    made = turns_of(CALL)
    assert [(record.channel, record.sequence, record.stage) for record in made] == [
        (0, 0, "diarize"),
        (1, 0, "diarize"),
    ]
    assert [[(t.speaker, t.start_sample, t.end_sample) for t in record.turns.turns] for record in made] == [
        [("agent", 0, None)],
        [("customer", 0, None)],
    ]
    assert {record.turns.watermark_sample for record in made} == {UNBOUNDED}


def test_a_turn_begins_where_the_leg_joins() -> None:
    made = turns_of(replace(CALL, offsets={1: 0.5}))
    assert made[1].turns is not None
    assert made[1].start_sample == made[1].turns.turns[0].start_sample == 4_000


def test_on_a_mixed_channel_nobody_is_known() -> None:
    call = Call(script={0: said("hello", at=0.4)}, seconds=2.0, roles=("mixed",))
    (record,) = turns_of(call)
    assert record.turns is not None
    assert record.turns.turns[0].speaker == "unknown"


def test_control_is_copied_and_speech_is_not() -> None:
    call = replace(CALL, controls=((1.0, "unheard_of", {}),))
    made = outputs_of(run(stages(call)["diarize"], run_chain(call).outputs["vad"]))
    assert [record.kind for record in made] == ["started", "turns", "turns", "unheard_of", "ended"]


def test_skipping_by_header_changes_nothing() -> None:
    speech = run_chain(CALL).outputs["vad"]
    vad, diarize = spec("vad"), spec("diarize")
    lanes = _lanes()
    kept = [
        record
        for record in speech
        if record.channel < 0 or not diarize.skips(vad.headers(record, lanes[record.channel]))
    ]
    assert len(kept) < len(speech)
    everything, some = (outputs_of(run(stages(CALL)["diarize"], log)) for log in (speech, kept))
    assert everything == some


@pytest.mark.parametrize("kind", ["speech", "watermark", "gap", "paused"])
def test_a_separate_channel_is_skipped_whole(kind: str) -> None:
    """Behind a restart diarization would take the records that it skips for lost ones, at the first that it does not skip."""
    record = next(record for record in run_chain(CALL).outputs["vad"] if record.channel == 0)
    assert spec("diarize").skips(spec("vad").headers(replace(record, kind=kind), _lanes()[0]))


def _lanes() -> Any:
    flow = stages(CALL)["vad"].flow()
    with pytest.raises(StopIteration):
        next(flow.feed(CALL.records()[0], 0))
    return flow.channels
