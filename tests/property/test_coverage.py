"""Every accepted sample is in exactly one span of the account, whatever a call is made of and whatever is missing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sink.coverage import Coverage, coverage_of
from pipeline.sink.logic import merge, plan
from pipeline.sink.stores.base import StoredCall
from pipeline.sink.stores.tables import COVERAGE, GAPS, SEGMENTS, latest
from schemas.records import CallSegment, Interrupted
from tests.fakes import Call, outputs_of, run, run_chain, said, stages
from tests.property.durable import BOUNDED, calls

CONTROLS: dict[str, dict[str, Any]] = {
    "pause": {},
    "resume": {},
    "interrupted": {"interrupted": Interrupted(reason="idle")},
}


def account(records: Sequence[CallSegment]) -> Coverage:
    """Return the account as a store would give it; every span is written twice."""
    batch = plan([*records, *records])
    call = None
    for change in batch.calls:
        call = merge(call, change)
    assert call is not None
    return coverage_of(
        StoredCall(
            call=call,
            segments=latest(SEGMENTS, batch.segments),
            gaps=latest(GAPS, batch.gaps),
            events=batch.events,
            coverage=latest(COVERAGE, batch.coverage),
        )
    )


@BOUNDED
@given(call=calls(controls=CONTROLS), late=st.sampled_from([0.0, 0.0, 1.0, 3.33]))
def test_the_account_of_any_call_adds_up(call: Call, late: float) -> None:
    call = replace(call, offsets={max(call.script): late})
    found = account(run_chain(call).segments)
    assert found.problems == ()
    for channel in found.channels:
        assert channel.covered_samples == channel.accepted_samples


@BOUNDED
@given(
    call=calls(controls=CONTROLS),
    missing=st.lists(st.integers(1, 60), max_size=4),
    name=st.sampled_from(["vad", "asr"]),
)
def test_what_is_missing_is_accounted_for_once(call: Call, missing: list[int], name: str) -> None:
    """Records of audio (of speech) that never came: undecodable ones look the same from behind."""
    log: list[Any] = call.records() if name == "vad" else run_chain(call).outputs["vad"]
    lost = {id(log[at]) for at in missing if at < len(log) and log[at].channel >= 0}
    log = [record for record in log if id(record) not in lost]
    speech = outputs_of(run(stages(call)["vad"], log)) if name == "vad" else log
    annotations = outputs_of(run(stages(call)["asr"], speech)) + outputs_of(run(stages(call)["diarize"], speech))
    found = account(outputs_of(run(stages(call)["assemble"], annotations)))
    assert found.problems == ()


@BOUNDED
@given(call=calls(controls=CONTROLS), missing=st.lists(st.integers(1, 60), max_size=4))
def test_words_that_never_came_are_accounted_for_once(call: Call, missing: list[int]) -> None:
    log = run_chain(call).annotations
    lost = {id(log[at]) for at in missing if at < len(log) and log[at].channel >= 0 and log[at].stage == "asr"}
    found = account(outputs_of(run(stages(call)["assemble"], [record for record in log if id(record) not in lost])))
    assert found.problems == ()


SPOKEN = Call(script={0: said("one two three.", at=1.0) + said("four.", at=4.0), 1: ()}, seconds=8.0)


def test_each_kind_is_what_it_says() -> None:
    call = replace(SPOKEN, controls=((5.0, "pause", {}), (6.0, "resume", {})), offsets={1: 2.0})
    log = [
        record
        for record in call.records()
        if not (record.channel == 0 and record.kind == "audio" and record.sequence == 33)
    ]
    found = account(outputs_of(run(stages(call)["assemble"], annotations_of(call, log))))
    agent, customer = found.channels
    assert found.problems == ()
    assert agent.totals["paused"] == customer.totals["paused"] == 8_000
    assert agent.totals["gap"] == 1_600
    assert agent.totals["segment"] > 4_000
    assert customer.totals == {"segment": 0, "non_speech": 40_000, "refused": 0, "gap": 0, "paused": 8_000}
    assert (agent.accepted_samples, customer.accepted_samples) == (56_000, 40_000)


def annotations_of(call: Call, log: list[Any]) -> list[Any]:
    speech = outputs_of(run(stages(call)["vad"], log))
    return outputs_of(run(stages(call)["asr"], speech)) + outputs_of(run(stages(call)["diarize"], speech))


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_audio_that_is_missing_at_the_end_is_a_gap(kept: int) -> None:
    log = [record for record in SPOKEN.records() if record.kind != "audio" or record.start_sample < kept * 8_000]
    found = account(outputs_of(run(stages(SPOKEN)["assemble"], annotations_of(SPOKEN, log))))
    assert found.problems == ()
    assert [channel.totals["gap"] for channel in found.channels] == [64_000 - kept * 8_000] * 2


@pytest.mark.parametrize("at", [0, 1, -1])
def test_a_span_that_is_lost_is_noticed(at: int) -> None:
    records = run_chain(SPOKEN).segments
    spans = [record for record in records if record.kind == "coverage" and record.channel == 0]
    found = account([record for record in records if record is not spans[at]])
    assert "are in no span" in found.problems[0]


@pytest.mark.parametrize("at", [0, 1])
def test_a_segment_that_is_lost_is_noticed(at: int) -> None:
    records = run_chain(SPOKEN).segments
    lost = [record for record in records if record.kind == "segment"][at]
    assert lost.segment is not None
    span = f"samples {lost.start_sample} to {lost.segment.end_sample}"
    assert account([record for record in records if record is not lost]).problems == (
        f"channel 0: {span} are accounted for as segment, and no segment is stored there",
    )


def test_a_gap_that_is_lost_is_noticed() -> None:
    log = [record for record in SPOKEN.records() if record.kind != "audio" or record.sequence != 33]
    records = outputs_of(run(stages(SPOKEN)["assemble"], annotations_of(SPOKEN, log)))
    assert account(records).problems == ()
    problems = account([record for record in records if record.kind != "gap" or record.channel != 0]).problems
    assert len(problems) == 1
    assert problems[0].endswith("are accounted for as gap, and no gap is stored there")


def test_one_span_of_several_segments_needs_them_all() -> None:
    # Spans of neighbours become one: a sentence that ends late enough, and what is said on without a pause.
    text = " ".join("one" for _ in range(12)) + ". four five."
    records = run_chain(Call(script={0: said(text, at=1.0, pause=0.0)}, seconds=8.0)).segments
    segments = [record for record in records if record.kind == "segment"]
    found = account(records)
    assert found.problems == ()
    assert [span.kind for span in found.channels[0].spans].count("segment") < len(segments)
    for lost in segments:
        assert "no segment is stored there" in account([one for one in records if one is not lost]).problems[0]


def test_a_complete_call_whose_start_is_lost_does_not_add_up() -> None:
    records = [record for record in run_chain(SPOKEN).segments if record.kind != "started"]
    found = account(records)
    assert found.problems == ("no channel is known: what the call started with is not stored",)
    assert found.to_text().endswith("is not stored\ndoes not add up\n")
    assert found.to_document()["adds_up"] is False


def test_a_segment_that_is_accounted_for_as_silence_is_noticed() -> None:
    records = []
    for record in run_chain(SPOKEN).segments:
        if record.coverage is not None:
            spans = tuple(replace(span, kind="non_speech") for span in record.coverage.spans)
            record = replace(record, coverage=replace(record.coverage, spans=spans))
        records.append(record)
    assert "the segment from sample" in account(records).problems[0]
