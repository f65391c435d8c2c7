from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pipeline.core import g711
from pipeline.core.errors import PoisonError
from pipeline.runtime.settings import VadSettings
from pipeline.vad import logic
from pipeline.vad.state import WINDOW, VadResult, VadWork
from schemas.records import Audio, CallAudio, CallSpeech, Gap, Interrupted
from tests.fakes import VAD, Call, LoudnessVad, outputs_of, run, said, stages, step

RATES = pytest.mark.parametrize("rate", [8_000, 16_000])


def speech_of(call: Call, records: list[CallAudio] | None = None, **changes: Any) -> list[CallSpeech]:
    """Return what vad writes for lane 0."""
    stage = stages(call, vad=replace(VAD, **changes))["vad"]
    made = outputs_of(run(stage, call.records() if records is None else records))
    return [record for record in made if record.channel == 0]


def utterances(made: Sequence[CallSpeech]) -> list[tuple[int, int]]:
    """Return start and end of each utterance, at the channel's rate; checks that its pieces are contiguous."""
    spans: list[tuple[int, int]] = []
    for index in sorted({record.speech.utterance for record in made if record.speech}):
        pieces = [record for record in made if record.speech and record.speech.utterance == index]
        ends = [p.start_sample + len(p.speech.audio) * p.sample_rate_hz // 32_000 for p in pieces]
        assert [p.start_sample for p in pieces[1:]] == ends[:-1]
        assert [p.speech.is_first for p in pieces] == [True] + [False] * (len(pieces) - 1)
        assert [p.speech.is_last for p in pieces] == [False] * (len(pieces) - 1) + [True]
        spans.append((pieces[0].start_sample, ends[-1]))
    return spans


@RATES
def test_an_utterance_has_pre_roll_and_hangover(rate: int) -> None:
    call = Call(script={0: said("hello", at=1.0, word_seconds=1.0)}, seconds=4.0, rate=rate)
    (span,) = utterances(speech_of(call))
    start, end = span[0] / rate, span[1] / rate
    window = WINDOW / 16_000
    assert 0.3 <= 1.0 - start <= 0.3 + window
    assert 0.5 - window <= end - 2.0 <= 0.5 + 3 * window


@RATES
def test_the_pieces_hold_the_audio_of_the_call(rate: int) -> None:
    call = Call(script={0: said("hello there", at=0.7)}, seconds=3.0, rate=rate)
    source = call.samples(0)
    for record in speech_of(call):
        if record.speech is not None:
            audio = np.frombuffer(record.speech.audio, "<i2")[:: 16_000 // rate]
            assert np.array_equal(audio, source[record.start_sample : record.start_sample + len(audio)])


def test_pieces_are_200_ms() -> None:
    made = speech_of(Call(script={0: said("hello", at=0.5, word_seconds=2.0)}, seconds=4.0))
    pieces = [record.speech for record in made if record.speech]
    shorter = [piece for piece in pieces if not piece.is_last and len(piece.audio) != 6_400]
    assert [len(piece.audio) < 6_400 for piece in shorter] == [True]  # the one that the pause has ended
    assert all(len(piece.audio) < 6_400 for piece in pieces if piece.is_last)


def test_a_gap_of_100_ms_closes_nothing_and_a_pause_of_a_second_does() -> None:
    assert len(utterances(speech_of(Call(script={0: said("a b c", at=0.5, pause=0.1)}, seconds=4.0)))) == 1
    assert len(utterances(speech_of(Call(script={0: said("a b c", at=0.5, pause=1.0)}, seconds=6.0)))) == 3


def test_a_click_opens_nothing() -> None:
    call = Call(script={0: said("x", at=1.0, word_seconds=0.03)}, seconds=3.0)
    assert utterances(speech_of(call)) == []


def test_silence_is_watermarks_and_nothing_else() -> None:
    made = speech_of(Call(script={0: ()}, seconds=10.0))
    assert {record.kind for record in made} == {"watermark"}
    starts = [record.start_sample for record in made]
    assert all(after - before >= 8_000 for before, after in pairwise(starts[:-1]))
    assert starts[-1] == 80_000
    assert len(starts) <= 11


def test_watermarks_promise_nothing_that_is_broken() -> None:
    call = Call(script={0: said("a b c d", at=1.7, pause=1.3)}, seconds=9.0)
    made, promised = speech_of(call), 0
    for record in made:
        if record.speech is not None:
            assert record.start_sample >= promised
        elif record.kind == "watermark":
            promised = record.start_sample


def test_a_long_utterance_is_cut_and_goes_on_without_a_hole() -> None:
    call = Call(script={0: said("word " * 20, at=0.5, pause=0.0, word_seconds=0.5)}, seconds=12.0)
    made = speech_of(call)
    spans = utterances(made)
    assert len(spans) == 3
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert all((end - start) / 8_000 <= VAD.max_utterance / 16_000 + 0.05 for start, end in spans)
    firsts = [record.speech.is_continuation for record in made if record.speech and record.speech.is_first]
    assert firsts == [False, True, True]
    starts = [-1, *(start / 8_000 for start, _ in spans[1:])]
    assert [(start, is_cut) for start, is_cut, _ in breaks(made)] == [
        (pytest.approx(start, abs=WINDOW / 16_000), is_cut)
        for start, is_cut in zip(starts, [True, True, False], strict=True)
    ]


def test_audio_that_jumps_closes_the_utterance_and_leaves_a_gap() -> None:
    call = Call(script={0: said("one two three", at=0.4, pause=0.0, word_seconds=0.6)}, seconds=4.0)
    records = [r for r in call.records() if r.channel < 0 or r.sequence < 6 or r.sequence >= 9]
    records = [
        replace(r, sequence=r.sequence - 3) if r.channel == 0 and r.sequence >= 9 else r for r in records
    ]  # the feed never had them
    made = speech_of(call, records)
    gap = next(i for i, record in enumerate(made) if record.kind == "gap")
    assert (made[gap].start_sample, made[gap].gap) == (9_600, Gap(end_sample=14_400, reason="missing_audio"))
    assert made[gap - 1].speech is not None
    assert made[gap - 1].speech.is_last
    assert utterances(made)[0][1] == 9_600
    assert utterances(made)[1][0] >= 14_400


def breaks(made: Sequence[CallSpeech]) -> list[Any]:
    """Return of each utterance where its speech begins (seconds, -1 without a break), whether it is cut off, where speech ends."""
    found: list[Any] = []
    for index in sorted({record.speech.utterance for record in made if record.speech}):
        pieces = [record.speech for record in made if record.speech and record.speech.utterance == index]
        assert {piece.speech_start_sample for piece in pieces[1:]} <= {-1}
        assert not any(piece.is_cut_off for piece in pieces[:-1])
        start = pieces[0].speech_start_sample
        found.append((start / 8_000 if start >= 0 else -1, pieces[-1].is_cut_off, pieces[-1].speech_end_sample / 8_000))
    return found


def test_an_utterance_between_silences_is_not_broken() -> None:
    call = Call(script={0: said("one two", at=0.5) + said("three", at=2.0)}, seconds=4.0)
    assert [(start, is_cut) for start, is_cut, _ in breaks(speech_of(call))] == [(-1, False), (-1, False)]


@pytest.mark.parametrize(
    "controls",
    [
        ((1.5, "interrupted", {"interrupted": Interrupted(reason="idle")}),),
        ((1.5, "pause", {}), (1.9, "resume", {})),
    ],
)
def test_speech_that_is_broken_off_says_so_on_both_sides(controls: Any) -> None:
    call = Call(script={0: said("word", at=0.5, word_seconds=2.0)}, seconds=4.0, controls=controls)
    first, second = breaks(speech_of(call))
    assert first == (-1, True, 1.5)
    assert second[0] == pytest.approx(controls[-1][0], abs=2 * WINDOW / 16_000)
    assert not second[1]


def test_a_break_in_silence_breaks_nothing_and_one_in_the_hangover_is_told_apart() -> None:
    controls = ((1.0, "interrupted", {"interrupted": Interrupted(reason="idle")}),)
    quiet = Call(script={0: said("one", at=0.1) + said("two", at=1.5)}, seconds=3.0, controls=controls)
    assert breaks(speech_of(quiet))[1][:2] == (-1, False)
    soon = replace(quiet, script={0: said("one", at=0.5) + said("two", at=1.2)})
    first, second = breaks(speech_of(soon))
    assert first == (-1, True, pytest.approx(0.75, abs=2 * WINDOW / 16_000))
    assert second[0] == pytest.approx(1.2, abs=WINDOW / 16_000)


def test_a_pause_is_no_gap() -> None:
    call = Call(script={0: said("one", at=0.3)}, seconds=4.0, controls=((1.1, "pause", {}), (2.9, "resume", {})))
    assert "gap" not in {record.kind for record in speech_of(call)}


def test_the_end_flushes() -> None:
    call = Call(script={0: said("hello", at=1.0, word_seconds=1.0)}, seconds=2.0)
    (span,) = utterances(speech_of(call))
    assert span[1] == 16_000


def test_a_leg_that_joins_late_has_no_gap_before_it() -> None:
    call = Call(script={0: said("hello", at=2.0)}, seconds=4.0, offsets={0: 1.5})
    made = speech_of(call)
    assert "gap" not in {record.kind for record in made}
    assert utterances(made)[0][0] >= 12_000


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_g711_is_decoded(law: Any) -> None:
    call = Call(script={0: said("hello", at=1.0, word_seconds=1.0)}, seconds=3.0)
    records = [
        replace(r, audio=Audio(encoding=law, data=g711.encode(np.frombuffer(r.audio.data, "<i2"), law)))
        if r.audio is not None
        else r
        for r in call.records()
    ]
    for record in speech_of(call, records):
        if record.speech is not None:
            audio = np.frombuffer(record.speech.audio, "<i2")[::2]
            expected = g711.decode(g711.encode(call.samples(0), law), law)
            assert np.array_equal(audio, expected[record.start_sample : record.start_sample + len(audio)])


@pytest.mark.parametrize(
    ("encoding", "data", "start"),
    [
        ("opus", b"\0\0", 0),
        ("pcm_s16le", b"\0", 0),
        ("pcm_s16le", b"", 0),
        ("pcm_s16le", bytes(2 * 8_000 * 31), 0),
        ("pcm_s16le", b"\0\0", -1),
    ],
)
def test_audio_that_cannot_be_used_is_poison(encoding: str, data: bytes, start: int) -> None:
    call = Call(script={0: ()}, seconds=1.0)
    record = replace(call.records()[1], audio=Audio(encoding=encoding, data=data), start_sample=start)
    flow = stages(call)["vad"].logic
    state = flow.open(_lane(call))
    with pytest.raises(PoisonError):
        flow.plan(state, record)
    with pytest.raises(PoisonError):
        flow.plan(state, replace(record, audio=None))


def test_g711_at_16_khz_and_overlapping_audio_are_poison() -> None:
    call = Call(script={0: ()}, seconds=1.0, rate=16_000)
    records = call.records()
    vad = stages(call)["vad"].logic
    state = vad.open(_lane(call))
    with pytest.raises(PoisonError, match="mulaw"):
        vad.plan(state, replace(records[1], audio=Audio(encoding="mulaw", data=b"\0")))
    state = vad.plan(state, records[1]).state
    with pytest.raises(PoisonError, match="below the end"):
        vad.plan(state, records[1])


def _lane(call: Call) -> Any:
    flow = stages(call)["vad"].flow()
    step(flow, stages(call)["vad"], call.records()[0], 0)
    return flow.channels[0]


def test_windows_are_scored_once_each_in_order_with_their_context() -> None:
    seen: list[Any] = []

    class Recording(LoudnessVad):
        def infer(self, batch: Sequence[VadWork]) -> list[VadResult]:
            seen.extend(work.windows for work in batch)
            return super().infer(batch)

    call = Call(script={0: said("hello there", at=0.2)}, seconds=2.0, rate=16_000)
    stage = replace(stages(call, vad=replace(VAD, silence_peak=-1))["vad"], engine=Recording())
    run(stage, call.records(0.1))
    windows = np.concatenate(seen)
    audio = call.samples(0)[: len(windows) * WINDOW].astype(np.float32) / 32_768
    flat = np.concatenate([windows[:, 64:].ravel()])
    assert np.array_equal(flat[: len(audio)], audio)
    assert np.array_equal(windows[1:, :64], windows[:-1, -64:])
    assert not windows[0, :64].any()


def test_settings_are_seconds() -> None:
    config = logic.make(VadSettings(pre_roll_seconds=0.3001, hangover_seconds=0.25))._config
    assert (config.pre_roll, config.hangover, config.max_utterance) == (4_802, 4_000, 384_000)


@pytest.mark.parametrize("record_seconds", [0.02, 0.1, 1.0])
def test_windows_of_silence_are_not_scored_and_say_that_nobody_speaks(record_seconds: float) -> None:
    seen: list[int] = []

    class Counting(LoudnessVad):
        def infer(self, batch: Sequence[VadWork]) -> list[VadResult]:
            assert all(np.abs(work.windows[:, 64:]).max(axis=1).min() > 0 for work in batch)
            seen.extend(len(work.windows) for work in batch)
            return super().infer(batch)

    call = Call(script={0: said("hello there", at=2.0)}, seconds=8.0, rate=16_000)
    stage = replace(stages(call)["vad"], engine=Counting())
    made = outputs_of(run(stage, call.records(record_seconds)))
    speech = [record for record in made if record.speech is not None]
    assert [record.speech.utterance for record in speech] == [0] * len(speech)
    assert max(record.start_sample for record in made if record.kind == "watermark") > 5 * 16_000
    assert 0.5 < sum(seen) * WINDOW / 16_000 < 1.0
