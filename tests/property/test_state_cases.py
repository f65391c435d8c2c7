"""Corners of what a state must hold, and of what it must not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.asr.hypothesis import AsrWork, Hypothesis, HypothesisWord
from pipeline.assemble.logic import AssembleLogic
from pipeline.core.contract import Lane
from schemas.records import CallAnnotation, Interrupted, Settings, Turn, Turns, Word, Words
from tests.fakes import ASSEMBLE, CALL, CODEC, Call, outputs_of, run, run_chain, said, stages
from tests.property.durable import PLAIN, Crash, disturbed, log_of


@pytest.mark.parametrize("at", range(30))
def test_an_interrupted_call_holds_nothing_back_after_a_restart(at: int) -> None:
    """After an interruption there is nothing to rebuild: a restored lane is complete at once."""
    gone = {"interrupted": Interrupted(reason="idle")}
    controls = ((4.0, "interrupted", gone), (4.0, "resumed", {}), (4.0, "interrupted", gone))
    log = replace(PLAIN, is_ended=False, controls=controls).records()
    durable = disturbed(stages(PLAIN)["vad"], log, [Crash(records=at, burst=1, share=1.0, lag=0)])
    assert durable.committed == len(log)


def test_the_state_stays_small_when_settings_bring_hot_words_only() -> None:
    speech = log_of(PLAIN, "asr")
    speech[0] = replace(speech[0], started=replace(speech[0].started, prompt="names " * 1_000))
    change = replace(
        speech[0], kind="settings", sequence=1, started=None, settings=Settings(hot_words=("w" * 100,) * 60)
    )
    speech = [speech[0], change, *(replace(r, sequence=2) if r.kind == "ended" else r for r in speech[1:])]
    states = [state for effects in run(stages(PLAIN)["asr"], speech) for state in effects.states if state.channel == 0]
    assert max(len(CODEC.encode(state)) for state in states) <= 4_096


def test_how_far_diarize_has_come_survives_a_restart() -> None:
    """A word that diarize has long passed is decided at once, before and after a restart."""
    logic = AssembleLogic(ASSEMBLE)
    call = Call(script={0: ()}, seconds=1.0, roles=("mixed",))
    lane = Lane(channel=call.started.channels[0], started=call.started)

    def annotation(kind: str, stage: str, start: int, **body: Any) -> CallAnnotation:
        return CallAnnotation(
            call_id=CALL,
            stage=stage,
            kind=kind,
            channel=0,
            sequence=0,
            start_sample=start,
            sample_rate_hz=8_000,
            capture_time_ms=0,
            **body,
        )

    turns = Turns(turns=(Turn(speaker="ann", start_sample=80_000, end_sample=88_000),), watermark_sample=0)
    state = logic.plan(logic.open(lane), annotation("turns", "diarize", 80_000, turns=turns)).state
    snapshot = logic.snapshot(state)
    assert snapshot is not None
    word = Word(text="one", start_sample=8_000, end_sample=9_600, probability=0.5)
    body = Words(
        utterance=0,
        is_last=True,
        words=(word,),
        rejected=(),
        watermark_sample=9_600,
        language="en",
        model="m",
        policy="p",
    )
    spoken = annotation("words", "asr", 8_000, words=body)
    assert logic.plan(logic.restore(lane, snapshot.data), spoken).outputs == logic.plan(state, spoken).outputs


class LateWords:
    """The first utterance: a word at its start and two over the padding. Every other: a word at its very start."""

    def __init__(self) -> None:
        self._utterances = 0

    def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
        return [self._hear(work) for work in batch]

    def _hear(self, work: AsrWork) -> Hypothesis:
        words = []
        if work.is_final:
            end = work.frames
            spans = [(0, 10), (end, end), (end, end)] if self._utterances % 2 == 0 else [(0, 10)]
            self._utterances += 1
            words = [
                HypothesisWord(text=f"w{n}.", tokens=(n,), frames=(first,), end_frame=last, log_probabilities=(-0.1,))
                for n, (first, last) in enumerate(spans)
            ]
        return Hypothesis(words=tuple(words), end_frame=work.frames, no_speech_probability=0.0)


def test_no_two_segments_have_one_id_when_a_sentence_ends_at_the_end() -> None:
    for shift in range(5):
        call = Call(script={0: said("word " * 32, at=shift * 0.032)}, seconds=12.0)
        chain = run_chain(call)
        annotations = outputs_of(run(replace(stages(call)["asr"], engine=LateWords()), chain.outputs["vad"]))
        turns = [record for record in chain.annotations if record.stage == "diarize"]
        segments = outputs_of(run(stages(call)["assemble"], [*turns, *annotations]))
        ids = [record.segment.segment_id for record in segments if record.segment]
        assert len(set(ids)) == len(ids), ids
