"""Definitions of the figures, against cases counted by hand."""

from __future__ import annotations

import pytest

from pipeline.bench.diarization.figures import (
    Count,
    DiarizationErrors,
    label_changes,
    latencies,
    most_overlapping,
    output_of,
    overlap_share,
    slices,
    word_errors,
)
from pipeline.bench.diarization.recordings import Speech, SpokenWord, speech_of
from pipeline.bench.diarization.running import WrittenTurns
from pipeline.core.rttm import SpeakerTurn
from pipeline.core.speakers import UNBOUNDED
from schemas.records import Turn, Turns

RATE = 16_000


def wrote(*turns: tuple[str, float, float | None], watermark: float = 0.0, fed: float = 0.0) -> WrittenTurns:
    records = tuple(
        Turn(
            speaker=speaker,
            start_sample=round(start * RATE),
            end_sample=None if end is None else round(end * RATE),
        )
        for speaker, start, end in turns
    )
    return WrittenTurns(
        turns=Turns(turns=records, watermark_sample=round(watermark * RATE)), sample_rate_hz=RATE, fed_seconds=fed
    )


def said(*turns: tuple[str, float, float]) -> list[SpeakerTurn]:
    return [
        SpeakerTurn(file="c", start_seconds=start, duration_seconds=end - start, speaker=speaker)
        for speaker, start, end in turns
    ]


def speech(*turns: tuple[str, float, float]) -> Speech:
    return speech_of(turns)


def test_a_later_turn_with_the_same_speaker_and_start_extends_the_earlier() -> None:
    written = [wrote(("s1", 1.0, 2.0)), wrote(("s1", 1.0, 4.0), ("s2", 3.0, 5.0)), wrote(("s1", 6.0, 7.0))]
    assert output_of(written, 10.0) == {"s1": ((1.0, 4.0), (6.0, 7.0)), "s2": ((3.0, 5.0),)}


def test_an_open_turn_lasts_to_the_end_and_nothing_longer() -> None:
    assert output_of([wrote(("unknown", 0.0, None))], 10.0) == {"unknown": ((0.0, 10.0),)}
    assert output_of([wrote(("s1", 8.0, 12.0), ("s2", 11.0, 12.0))], 10.0) == {"s1": ((8.0, 10.0),)}
    assert output_of([], 10.0) == {}


def test_latency_is_the_audio_fed_behind_a_moment_when_its_speaker_was_final() -> None:
    written = [wrote(watermark=1.0, fed=1.5), wrote(watermark=1.0, fed=2.0), wrote(watermark=2.0, fed=3.0)]
    final, never = latencies(speech(("A", 0.9, 1.1), ("B", 1.95, 2.05)), written)
    assert final == pytest.approx((0.5, 1.9))  # ends at 1.0 and 1.1; that at 2.05 was never passed
    assert never == 1


def test_what_is_known_beforehand_has_no_latency() -> None:
    written = [WrittenTurns(turns=Turns(turns=(), watermark_sample=UNBOUNDED), sample_rate_hz=RATE, fed_seconds=0.0)]
    assert latencies(speech(("A", 1.0, 1.2)), written) == ((0.0, 0.0), 0)
    assert latencies(speech(("A", 1.0, 1.2)), []) == ((), 2)


def test_slices_are_equal_and_never_none() -> None:
    assert list(slices((0.0, 0.05), 0.1)) == [(0.0, 0.05)]
    assert [end for _, end in slices((1.0, 1.3), 0.1)] == pytest.approx([1.1, 1.2, 1.3])


def test_a_word_is_wrong_when_most_of_it_is_of_another_label_of_none_or_unknown() -> None:
    words = [
        SpokenWord(speaker="A", start_seconds=0.0, end_seconds=1.0),  # s1 0.6, s2 0.4: right
        SpokenWord(speaker="B", start_seconds=0.0, end_seconds=1.0),  # the same, said by B: wrong
        SpokenWord(speaker="A", start_seconds=1.0, end_seconds=2.0),  # s2 alone: wrong
        SpokenWord(speaker="A", start_seconds=3.0, end_seconds=4.0),  # nobody: wrong
        SpokenWord(speaker="A", start_seconds=5.0, end_seconds=6.0),  # unknown 0.7, s1 0.3: wrong
        SpokenWord(speaker="A", start_seconds=7.0, end_seconds=8.0),  # s3, who is mapped to nobody: wrong
    ]
    output = speech(("s1", 0.0, 0.6), ("s2", 0.6, 2.0), ("unknown", 5.0, 5.7), ("s1", 5.7, 6.0), ("s3", 7.0, 8.0))
    found = word_errors(speech(("A", 0.0, 8.0)), words, output, {"s1": "A", "s2": "B", "unknown": "A"})
    assert found == Count(errors=5, of=6)


def test_without_words_slices_of_speech_are_counted() -> None:
    reference = speech(("A", 0.0, 1.0), ("B", 1.0, 1.4))
    found = word_errors(reference, [], speech(("s1", 0.0, 1.4)), {"s1": "A"})
    assert found == Count(errors=2, of=7)


def test_a_changed_label_is_counted_once_per_turn_that_differs_from_most_before() -> None:
    turns = said(
        ("A", 2.0, 4.0),  # before 15 s
        *(("A", 20.0 + 10 * index, 22.0 + 10 * index) for index in range(6)),
    )
    labels = ["s9", "s1", "s1", "s2", "s1", "s2", "s2"]
    output = speech(*((label, turn.start_seconds, turn.end_seconds) for label, turn in zip(labels, turns, strict=True)))
    found = label_changes(speech(("A", 0.0, 100.0)), turns, output)
    assert found == Count(errors=3, of=5)  # s2, s2 against s1, and the last s2 against three s1 and two s2


def test_of_several_labels_with_as_many_turns_the_latest_counts() -> None:
    turns = said(("A", 20.0, 22.0), ("A", 30.0, 32.0), ("A", 40.0, 42.0))
    output = speech(("s1", 20.0, 22.0), ("s2", 30.0, 32.0), ("s2", 40.0, 42.0))
    assert label_changes(speech(("A", 20.0, 50.0)), turns, output) == Count(errors=1, of=2)


def test_short_overlapped_and_unlabelled_turns_have_no_label() -> None:
    turns = said(
        ("A", 20.0, 22.0),
        ("A", 30.0, 30.9),  # too short
        ("A", 40.0, 42.0),  # B speaks in all but 0.5 s of it
        ("A", 50.0, 52.0),  # unknown
        ("A", 60.0, 62.0),  # nothing
        ("B", 40.5, 42.0),
    )
    output = speech(("s1", 20.0, 22.0), ("s2", 30.0, 30.9), ("s2", 40.0, 42.0), ("unknown", 50.0, 52.0))
    reference = speech_of((turn.speaker, turn.start_seconds, turn.end_seconds) for turn in turns)
    assert label_changes(reference, turns, output) == Count(errors=0, of=0)


def test_most_overlapping_prefers_the_first_by_name_and_needs_some() -> None:
    output = speech(("b", 0.0, 1.0), ("a", 1.0, 2.0))
    assert most_overlapping(output, [(0.5, 1.5)]) == "a"
    assert most_overlapping(output, [(0.4, 1.5)]) == "b"
    assert most_overlapping(output, [(5.0, 6.0)]) is None
    assert most_overlapping({}, [(5.0, 6.0)]) is None


def test_overlap_share_is_of_the_time_with_speech() -> None:
    assert overlap_share(speech(("A", 0.0, 6.0), ("B", 5.0, 10.0))) == pytest.approx(0.1)
    assert overlap_share({}) is None


def test_rates_are_of_sums() -> None:
    errors = DiarizationErrors(total=10.0, missed=1.0, false_alarm=0.5, confusion=0.5)
    assert errors.rate == pytest.approx(0.2)
    assert (errors + DiarizationErrors(total=10.0)).rate == pytest.approx(0.1)
    assert DiarizationErrors(false_alarm=3.0).rate is None
    assert Count().rate is None
