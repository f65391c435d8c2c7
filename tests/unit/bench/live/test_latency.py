from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.bench.live.latency import (
    CommittedWord,
    Heard,
    Percentiles,
    Stamped,
    Window,
    committed_words,
    final_speakers,
    lateness,
    own_latencies,
    speaker_latency,
    true_latencies,
)
from pipeline.bench.word_ends import TrueWord
from schemas.records import CallAnnotation, CallSpeech, Speech, Turns, Word, Words

START_MS = 1_764_000_000_000
STARTS = {"c1": START_MS}
ALWAYS = Window(start_ms=0, end_ms=2 * START_MS)


def committed(*texts: str, sequence: int, end: float, at: float, joined: bool = False) -> Stamped[CallAnnotation]:
    """Return a record with words of half a second, the last of which ends at ``end``, written at ``at``; seconds of the call."""
    first = round((end - 0.5 * len(texts)) * 8000)
    words = tuple(
        Word(
            text=text,
            start_sample=first + 4000 * index,
            end_sample=first + 4000 * (index + 1),
            probability=0.9,
            is_joined=joined,
        )
        for index, text in enumerate(texts)
    )
    record = CallAnnotation(
        call_id="c1",
        kind="words",
        channel=0,
        sequence=sequence,
        start_sample=first,
        sample_rate_hz=8000,
        capture_time_ms=START_MS + first // 8,
        stage="asr",
        words=Words(utterance=0, is_last=False, words=words, watermark_sample=first, model="m", policy="p"),
    )
    return Stamped(record=record, time_ms=START_MS + round(at * 1000))


def final(until: float, *, at: float, kind: str = "turns", stage: str = "diarize") -> Stamped[CallAnnotation]:
    """Return a record that makes speakers up to ``until`` final, written at ``at``; seconds of the call."""
    sample = round(until * 8000)
    record = CallAnnotation(
        call_id="c1",
        kind=kind,
        channel=0,
        sequence=0,
        start_sample=sample if kind == "watermark" else sample + 8000,
        sample_rate_hz=8000,
        capture_time_ms=START_MS,
        stage=stage,
        turns=Turns(turns=(), watermark_sample=sample) if kind == "turns" else None,
    )
    return Stamped(record=record, time_ms=START_MS + round(at * 1000))


def heard(*annotations: Stamped[CallAnnotation]) -> Heard:
    return Heard(
        words=committed_words(annotations),
        finals=final_speakers(annotations),
        speech_seconds=(),
        segment_seconds=(),
        is_appended=True,
    )


def said(text: str, end: float) -> TrueWord:
    return TrueWord(channel=0, text=text, start_seconds=end - 0.5, end_seconds=end)


def test_latency_is_from_the_true_end_of_matching_words() -> None:
    found = heard(committed("hello", "word", "again", sequence=0, end=1.5, at=2.5))
    spoken = {"c1": [said("Hello,", 0.4), said("world", 1.1), said("again.", 1.3)]}
    assert true_latencies(found, STARTS, spoken, ALWAYS) == ([2.1, 1.2], 3)
    assert own_latencies(found, STARTS, ALWAYS) == [2.0, 1.5, 1.0]


def test_words_count_where_their_end_was_captured_in_the_window() -> None:
    found = heard(committed("one", "two", "three", sequence=0, end=1.5, at=2.5))
    spoken = {"c1": [said("one", 0.5), said("two", 1.0), said("three", 1.5)]}
    window = Window(start_ms=START_MS + 600, end_ms=START_MS + 1500)
    assert true_latencies(found, STARTS, spoken, window) == ([1.5], 1)
    assert own_latencies(found, STARTS, window) == [1.5]


def test_a_channel_that_was_not_heard_has_words_spoken_and_none_matched() -> None:
    assert true_latencies(heard(), STARTS, {"c1": [said("lost", 1.0)]}, ALWAYS) == ([], 1)


def test_a_word_counts_when_it_was_first_committed() -> None:
    first = committed("hello", sequence=3, end=1.0, at=2.0)
    again = replace(first, time_ms=START_MS + 9_000)
    assert own_latencies(heard(first, again), STARTS, ALWAYS) == [1.0]


def test_a_word_without_a_space_before_it_belongs_to_the_last_one() -> None:
    words = committed_words(
        [
            committed("twenty", sequence=0, end=1.0, at=2.0),
            committed("-five", sequence=1, end=1.5, at=3.0, joined=True),
        ]
    )
    assert words == {"c1": {0: [CommittedWord(text="twenty-five", end_seconds=1.5, committed_ms=START_MS + 3_000)]}}


def test_records_are_late_from_the_capture_of_their_last_sample() -> None:
    speech = Speech(utterance=0, is_first=True, is_last=False, audio=bytes(2 * 3200))  # 0.2 s at 16 kHz
    record = CallSpeech(
        call_id="c1",
        kind="speech",
        channel=0,
        sequence=0,
        start_sample=8000,
        sample_rate_hz=8000,
        capture_time_ms=START_MS + 1000,
        speech=speech,
    )
    stamped = Stamped(record=record, time_ms=START_MS + 1500)
    watermark = Stamped(record=replace(record, kind="watermark", sequence=1, speech=None), time_ms=START_MS)
    foreign = Stamped(record=replace(record, call_id="other"), time_ms=START_MS)
    assert list(lateness([stamped, stamped, watermark, foreign], STARTS, ALWAYS)) == [pytest.approx(0.3)]
    assert list(lateness([stamped], STARTS, Window(start_ms=START_MS + 1201, end_ms=START_MS + 9000))) == []


def test_a_speaker_is_known_once_diarize_is_at_or_past_the_end_of_the_word() -> None:
    found = heard(
        committed("one", "two", "three", sequence=0, end=1.5, at=2.0),  # they end at 0.5, 1.0, 1.5
        final(0.9, at=1.5),
        final(1.0, at=2.75),
        final(1.49, at=3.0, kind="watermark"),
        final(9.0, at=3.5, kind="watermark", stage="asr"),
        final(1.5, at=4.5, kind="watermark"),
        final(1.5, at=6.0),
    )
    latency = speaker_latency(found, STARTS, ALWAYS)
    each = latency.after_commit
    assert (each.count, each.p50, each.p95, each.max, latency.never) == (3, 0.75, 2.5, 2.5, 0)
    window = Window(start_ms=START_MS + 600, end_ms=START_MS + 1500)
    assert speaker_latency(found, STARTS, window).after_commit == Percentiles.of([0.75])


def test_a_speaker_that_was_known_before_its_word_is_no_less_than_at_once() -> None:
    found = heard(final(2.0, at=1.0), committed("one", sequence=0, end=1.0, at=1.8))
    assert speaker_latency(found, STARTS, ALWAYS).after_commit == Percentiles.of([0.0])


def test_what_was_final_stays_final_when_a_worker_begins_again() -> None:
    found = heard(
        committed("one", sequence=0, end=1.0, at=1.5), final(2.0, at=2.0), final(0.5, at=2.5), final(2.0, at=2.75)
    )
    assert speaker_latency(found, STARTS, ALWAYS).after_commit == Percentiles.of([0.5])


def test_a_word_whose_speaker_never_is_known_is_counted() -> None:
    found = heard(committed("one", "two", sequence=0, end=1.0, at=1.5), final(0.75, at=2.0))
    latency = speaker_latency(found, STARTS, ALWAYS)
    assert (latency.after_commit, latency.never) == (Percentiles.of([0.5]), 1)
    nobody = speaker_latency(heard(committed("one", sequence=0, end=1.0, at=1.5)), STARTS, ALWAYS)
    assert (nobody.after_commit, nobody.never) == (Percentiles.of([]), 1)


def test_percentiles_are_values_that_were_measured() -> None:
    each = Percentiles.of([value / 100 for value in range(100, 0, -1)])
    assert (each.count, each.p50, each.p95, each.p99, each.max) == (100, 0.5, 0.95, 0.99, 1.0)
    nothing = Percentiles.of([])
    assert (nothing.count, nothing.p50, nothing.p95, nothing.p99, nothing.max) == (0, None, None, None, None)
