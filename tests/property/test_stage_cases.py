"""Corners of the stages' logic, run through whole stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.asr.hypothesis import AsrWork, Hypothesis, HypothesisWord
from pipeline.asr.policies.alignatt import AlignAtt
from pipeline.asr.policies.base import Memory
from schemas.records import CallAnnotation, Gap, Started, Word, Words
from tests.fakes import CALL, CODEC, VAD, Call, outputs_of, run, run_chain, said, stages, step
from tests.property.durable import BOUNDED, PLAIN, calls
from tests.transcripts import transcript, words_of


def held_at_most(call: Call, name: str, **configs: Any) -> int:
    """Return the largest number of records a stage had not released at any time."""
    chain = run_chain(call, **configs)
    log: list[Any] = {"vad": call.records(), "assemble": chain.annotations}.get(name, chain.outputs["vad"])
    stage = stages(call, **configs)[name]
    flow, held, most = stage.flow(), set(), 0
    for offset, record in enumerate(log):
        held.add(offset)
        held -= set(step(flow, stage, record, offset).released)
        most = max(most, len(held))
    return most


# -- vad -------------------------------------------------------------------------------------------------------------


def test_speech_without_a_pause_is_released_at_every_utterance_end() -> None:
    """A caller (or a radio) that never pauses must not hold a partition back: recovery re-does at most the open utterance."""
    held = [
        held_at_most(Call(script={0: said("word " * int(seconds / 0.3 - 4), at=0.5)}, seconds=seconds), "vad", vad=VAD)
        for seconds in (20.0, 40.0)
    ]
    most = (VAD.max_utterance / 16_000 + 2) * 5  # records of 200 ms
    assert held[1] <= most, held


def test_a_pause_after_the_longest_utterance_loses_nothing() -> None:
    """Speech up to the soft limit, then a pause longer than the pre-roll and shorter than the hangover, then more speech:
    the next utterance follows without silence, so the whole pause is still needed.
    """
    for milliseconds in (300, 360, 420, 480, 540):
        words = said("a b c d e f g h i j k l m n o p", at=0.5, word_seconds=0.28, pause=0.0)
        call = Call(script={0: words + said("q r s.", at=words[-1].end + milliseconds / 1000)}, seconds=8.0)
        chain = run_chain(call)
        pieces = [record for record in chain.outputs["vad"] if record.speech is not None]
        for before, after in pairwise(pieces):
            if before.speech.utterance == after.speech.utterance:
                assert after.start_sample == before.start_sample + len(before.speech.audio) // 4
        assert words_of(chain.segments, 0) == [word.text for word in call.script[0]]


# -- asr -------------------------------------------------------------------------------------------------------------


def test_the_words_before_a_gap_are_written_before_it() -> None:
    """Else assemble closes the utterance at the gap, and its last words become a segment of their own behind it."""
    log = run_chain(PLAIN).outputs["vad"]
    index = next(i for i, record in enumerate(log) if record.speech is not None) + 4
    made = [
        record
        for record in outputs_of(run(stages(PLAIN)["asr"], log[:index] + log[index + 1 :]))
        if record.kind != "tail"
    ]
    gap = next(i for i, record in enumerate(made) if record.kind == "gap")
    assert made[gap - 1].words is not None
    assert made[gap - 1].words.is_last
    assert not any(
        record.words.utterance == 0 and record.start_sample < made[gap].start_sample
        for record in made[gap + 1 :]
        if record.words
    )


def test_a_token_at_the_threshold_is_within_it() -> None:
    """As in SimulStreaming: what attends ``frame_threshold`` frames before the end, or later, is held back."""
    words = tuple(
        HypothesisWord(text=text, tokens=(i,), frames=(frame,), end_frame=frame + 5, log_probabilities=(-0.1,))
        for i, (text, frame) in enumerate([("a", 10), ("b", 75), ("c", 90)])
    )
    hypothesis = Hypothesis(words=words, end_frame=95, no_speech_probability=0.0)
    assert AlignAtt(frame_threshold=25).commit(hypothesis, frames=100, is_final=False, memory=Memory())[0] == 1


class EdgeWords:
    """One word in each utterance: at the very end of the first (as over the padding), at the very start of the next, ..."""

    def __init__(self) -> None:
        self._utterances = 0

    def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
        return [self._hear(work) for work in batch]

    def _hear(self, work: AsrWork) -> Hypothesis:
        if not work.is_final:
            return Hypothesis(words=(), end_frame=work.frames, no_speech_probability=0.0)
        frames = (work.frames, work.frames) if self._utterances % 2 == 0 else (0, 10)
        self._utterances += 1
        text = f"word{self._utterances}."
        word = HypothesisWord(text=text, tokens=(1,), frames=frames[:1], end_frame=frames[1], log_probabilities=(-0.1,))
        return Hypothesis(words=(word,), end_frame=work.frames, no_speech_probability=0.0)


def test_no_two_segments_have_one_id() -> None:
    """The store knows a segment by (call, channel, start): of two with one start only the last is kept, and words are lost.

    A word attended at the end of the window has no length; the next utterance, when it follows without silence, starts there.
    """
    for shift in range(5):  # one of five ends on a whole frame
        call = Call(script={0: said("word " * 32, at=shift * 0.032)}, seconds=12.0)
        chain = run_chain(call)
        annotations = outputs_of(run(replace(stages(call)["asr"], engine=EdgeWords()), chain.outputs["vad"]))
        turns = [record for record in chain.annotations if record.stage == "diarize"]
        segments = outputs_of(run(stages(call)["assemble"], [*turns, *annotations]))
        ids = [record.segment.segment_id for record in segments if record.segment]
        assert len(set(ids)) == len(ids), ids


def test_the_state_stays_small_whatever_the_prompt() -> None:
    """At most 4 kB: the prompt of the call is in `started`, which the control lane keeps already."""
    call = Call(script=PLAIN.script, seconds=4.0)
    speech = run_chain(call).outputs["vad"]
    started: Started = replace(speech[0].started, prompt="names " * 1_000)
    speech[0] = replace(speech[0], started=started)
    states = [state for effects in run(stages(call)["asr"], speech) for state in effects.states if state.channel == 0]
    assert max(len(CODEC.encode(state)) for state in states) <= 4_096


def test_text_over_what_is_no_speech_is_refused() -> None:
    class Sure:
        def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
            word = HypothesisWord(text="Thanks.", tokens=(1,), frames=(10,), end_frame=20, log_probabilities=(-1.2,))
            return [Hypothesis(words=(word,), end_frame=20, no_speech_probability=0.98) for work in batch]

    asr = replace(stages(PLAIN)["asr"], engine=Sure())
    words = [record.words for record in outputs_of(run(asr, run_chain(PLAIN).outputs["vad"])) if record.words]
    assert words
    assert all(not body.words and body.rejected for body in words if body.is_last)


# -- assemble --------------------------------------------------------------------------------------------------------


def annotation(stage: str, kind: str, sequence: int, start: int, **body: Any) -> CallAnnotation:
    """Return a record of lane 0."""
    return CallAnnotation(
        call_id=CALL,
        stage=stage,
        kind=kind,
        channel=0,
        sequence=sequence,
        start_sample=start,
        sample_rate_hz=8_000,
        capture_time_ms=0,
        **body,
    )


def words(utterance: int, sequence: int, start: int, *texts: str, is_last: bool) -> CallAnnotation:
    """Return committed words of 200 ms."""
    made = tuple(
        Word(text=text, start_sample=start + i * 1_600, end_sample=start + (i + 1) * 1_600, probability=0.5)
        for i, text in enumerate(texts)
    )
    body = Words(
        utterance=utterance,
        is_last=is_last,
        words=made,
        rejected=(),
        watermark_sample=made[-1].end_sample,
        language="en",
        model="m@1",
        policy="alignatt",
    )
    return annotation("asr", "words", sequence, start, words=body)


def test_a_gap_that_diarize_passes_on_closes_no_utterance() -> None:
    """Both writers copy a gap of vad. Where the copy of diarize lies between the records of asr is a matter of load."""
    call = Call(script={0: ()}, seconds=4.0)
    opening = [record for record in run_chain(call).annotations if record.kind in ("started", "turns")]
    first = words(0, 0, 8_000, "one", "two", is_last=False)
    rest = words(0, 1, 11_200, "three", is_last=True)
    gap = annotation("diarize", "gap", 1, 24_000, gap=Gap(end_sample=25_600, reason="missing_audio"))
    texts = []
    for log in ([first, rest, gap], [first, gap, rest]):
        segments = outputs_of(run(stages(call)["assemble"], [*opening, *log]))
        texts.append([record.segment.text for record in segments if record.segment])
    assert texts == [["one two three"], ["one two three"]]


@BOUNDED
@given(call=calls(seconds=9.0), data=st.data())
def test_which_of_asr_and_diarize_is_faster_decides_nothing(call: Call, data: st.DataObject) -> None:
    """No load decides what a transcript says: diarize may be late by any number of records."""
    annotations = run_chain(call).annotations
    expected = transcript(outputs_of(run(stages(call)["assemble"], annotations)))
    queues = [[record for record in annotations if record.stage == stage] for stage in ("asr", "diarize")]
    merged: list[Any] = []
    while queues[0] and queues[1]:
        merged.append(queues[data.draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1]))].pop(0))
    merged += queues[0] + queues[1]
    assert transcript(outputs_of(run(stages(call)["assemble"], merged))) == expected


def test_diarize_down_for_the_whole_call_changes_nothing() -> None:
    call = Call(script={0: said("one two three.", at=0.4), 1: said("hello.", at=1.0)}, seconds=12.0)
    annotations = run_chain(call).annotations
    expected = transcript(outputs_of(run(stages(call)["assemble"], annotations)))
    merged = sorted(annotations, key=lambda record: record.stage == "diarize")
    assert transcript(outputs_of(run(stages(call)["assemble"], merged))) == expected
