"""Corners of restarts: what a state must hold, what is passed on, what is a repeat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.errors import PoisonError
from schemas.records import CallAudio, Dtmf, Gap, Interrupted
from tests.fakes import Call, outputs_of, run, run_chain, said, stages, step
from tests.property.durable import Crash, Durable, assert_same

CALL = Call(script={0: said("one two three.", at=0.4) + said("four five.", at=2.6)}, seconds=4.0)
PAUSED = replace(CALL, controls=((1.9, "pause", {}), (2.5, "resume", {})))


def test_a_pause_survives_a_restart_that_reads_audio_before_it_again() -> None:
    log = PAUSED.records()
    for at in range(len(log)):
        assert_same(stages(PAUSED)["vad"], log, [Crash(records=at, burst=1, share=0.0, lag=0)])


@pytest.mark.parametrize("name", ["vad", "asr"])
def test_a_missing_record_gives_the_same_gap_after_a_restart(name: str) -> None:
    """The gap starts where the lane had come to, which its state must hold."""
    log: list[Any] = CALL.records()
    if name == "asr":
        log = run_chain(CALL).outputs["vad"]
    for missing in range(1, len(log) - 1):
        holed = log[:missing] + log[missing + 1 :]
        if log[missing].channel == 0:
            at = missing - missing % 2
            assert_same(stages(CALL)[name], holed, [Crash(records=at, burst=1, share=0.0, lag=0)])


def test_a_gap_does_not_cover_speech_that_was_heard() -> None:
    """Every sample ends in exactly one account."""
    log = run_chain(CALL).outputs["vad"]
    index = next(i for i, record in enumerate(log) if record.speech is not None and record.speech.utterance == 0) + 3
    heard_to = log[index - 1].start_sample + len(log[index - 1].speech.audio) // 4  # 16-bit, twice the channel's rate
    made = outputs_of(run(stages(CALL)["asr"], log[:index] + log[index + 1 :]))
    assert [record.start_sample for record in made if record.kind == "gap"] == [heard_to]


def test_an_output_at_the_end_has_the_same_capture_time_after_a_restart() -> None:
    gap = CallAudio(
        call_id=CALL.call_id,
        kind="gap",
        channel=0,
        sequence=10,
        start_sample=16_000,
        sample_rate_hz=8_000,
        capture_time_ms=1_700_000_002_000,
        gap=Gap(end_sample=24_000, reason="missing_audio"),
    )
    records = CALL.records()
    log = [record for record in records if record.channel < 0 or record.sequence < 10]
    log.insert(len(log) - 1, gap)
    for at in range(len(log)):
        assert_same(stages(CALL)["vad"], log, [Crash(records=at, burst=1, share=0.0, lag=0)])


def test_a_repeated_rejection_is_the_same_record() -> None:
    call = replace(CALL, controls=((1.0, "hold", {}), (2.0, "hold", {})))
    log = call.records()
    index = next(i for i, record in enumerate(log) if record.kind == "audio" and record.sequence == 12)
    log[index] = replace(log[index], audio=replace(log[index].audio, encoding="opus"))
    for at in range(len(log)):
        assert_same(stages(call)["vad"], log, [Crash(records=at, burst=1, share=0.99, lag=0)])


def test_a_poisonous_start_leaves_the_flow_as_it_was() -> None:
    stage, records = stages(CALL)["vad"], CALL.records()
    flow = stage.flow()
    with pytest.raises(PoisonError):
        next(flow.feed(replace(records[0], sample_rate_hz=16_000), 0))
    assert not flow.channels


@pytest.mark.parametrize("name", ["vad", "asr", "diarize", "assemble"])
def test_repeats_after_the_end_are_repeats(name: str) -> None:
    """The stage before died after its last outputs and wrote them again. The worker makes a new flow from the states."""
    chain = run_chain(CALL)
    log: list[Any] = {"vad": CALL.records(), "assemble": chain.annotations}.get(name, chain.outputs["vad"])
    durable = Durable(stages(CALL)[name], list(log))
    durable.drain()
    durable.log += [record for record in log[-12:] if record.kind != "ended"]
    durable.restart()
    for offset in range(len(log), len(durable.log)):
        steps = durable.flow.feed(durable.log[offset], offset)
        with pytest.raises(StopIteration):
            next(steps)


def with_digits(log: list[Any], at: int) -> list[Any]:
    """Put a record of a kind the stage does not consume into lane 0."""
    made, shift = [], 0
    for record in log:
        if record.channel == 0:
            if record.sequence == at:
                bodies = {name: None for name in ("audio", "speech") if hasattr(record, name)}
                made.append(replace(record, kind="dtmf", dtmf=Dtmf(digits="1"), **bodies))
                shift = 1
            record = replace(record, sequence=record.sequence + shift)
        made.append(record)
    return made


def test_a_record_of_a_lane_that_is_passed_on_is_passed_on_once_after_a_restart() -> None:
    log = with_digits(CALL.records(), 11)
    for at in range(len(log)):
        assert_same(stages(CALL)["vad"], log, [Crash(records=at, burst=1, share=0.0, lag=0)])


def test_a_record_of_a_lane_that_is_passed_on_reaches_the_segments_once() -> None:
    segments = run_chain(CALL, with_digits(CALL.records(), 11)).segments
    assert [record.kind for record in segments].count("dtmf") == 1


def test_a_rejection_by_diarize_marks_the_call() -> None:
    """A record that diarize alone cannot use: its `degraded` is control of the second writer."""
    chain = run_chain(CALL)
    flow, stage = stages(CALL)["diarize"].flow(), stages(CALL)["diarize"]
    made = list(step(flow, stage, chain.outputs["vad"][0], 0).outputs)
    made += flow.reject(1, reason="PoisonError", topic="t", partition=0).outputs
    for offset, record in enumerate(chain.outputs["vad"][1:], start=2):
        made += step(flow, stage, record, offset).outputs
    asr = [record for record in chain.annotations if record.stage == "asr"]
    segments = outputs_of(run(stages(CALL)["assemble"], made + asr))
    assert [record.degraded.stage for record in segments if record.degraded] == ["diarize"]


@pytest.mark.parametrize("name", ["vad", "asr", "diarize", "assemble"])
def test_an_interrupted_call_holds_nothing_back(name: str) -> None:
    """Else the commit of the whole partition stands still until the call is resumed, which may be never."""
    call = replace(
        CALL, is_ended=False, controls=((4.0, "interrupted", {"interrupted": Interrupted(reason="disconnected")}),)
    )
    chain = run_chain(call)
    log: list[Any] = {"vad": call.records(), "assemble": chain.annotations}.get(name, chain.outputs["vad"])
    durable = Durable(stages(call)[name], list(log))
    durable.drain()
    assert durable.committed == len(log)
