"""The verdict: every way in which a transcript can be spoilt is counted, and nothing else is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chaos.verdict import Counts, compare, percentile, total


def document(*texts: str, call_id: str = "c1") -> dict[str, Any]:
    """Return a transcript with one segment per text on channel 0; a word takes 0.5 s."""
    segments, at = [], 1.0
    for text in texts:
        words = []
        for word in text.split():
            words.append({"text": word, "start_seconds": at, "end_seconds": at + 0.5, "probability": 0.9})
            at += 0.5
        segment = {"segment_id": f"{call_id}/0/{at}", "revision": 0, "channel": 0, "speaker": "agent", "text": text}
        segments.append({**segment, "start_seconds": words[0]["start_seconds"], "end_seconds": at, "words": words})
        at += 1.0
    return {
        "call_id": call_id,
        "state": "complete",
        "duration_seconds": at,
        "channels": [{"channel": 0, "role": "agent", "language": "en"}],
        "segments": segments,
        "gaps": [],
        "degraded": [],
    }


UNDISTURBED = document("thank you for calling", "how can I help")


@pytest.fixture
def found() -> dict[str, Any]:
    return copy.deepcopy(UNDISTURBED) | {"call_id": "c2"}


def test_the_same_transcript_is_clean_whatever_its_ids(found: dict[str, Any]) -> None:
    for segment in found["segments"]:
        segment["segment_id"] = "another"
    assert compare(UNDISTURBED, found) == Counts(words=8)
    assert compare(UNDISTURBED, found).is_clean


def test_a_word_that_is_missing_is_lost(found: dict[str, Any]) -> None:
    del found["segments"][1]["words"][2]
    assert compare(UNDISTURBED, found) == Counts(words=8, lost=1)


def test_a_segment_that_is_missing_is_lost_with_every_word(found: dict[str, Any]) -> None:
    del found["segments"][1]
    assert compare(UNDISTURBED, found) == Counts(words=8, lost=4)


def test_without_a_transcript_everything_is_lost() -> None:
    assert compare(UNDISTURBED, None) == Counts(words=8, lost=8)


def test_a_word_that_is_there_again_is_twice(found: dict[str, Any]) -> None:
    found["segments"][0]["words"].append(dict(found["segments"][0]["words"][0]))
    assert compare(UNDISTURBED, found) == Counts(words=8, twice=1)


def test_a_word_that_is_there_again_a_little_later_is_twice(found: dict[str, Any]) -> None:
    again = dict(found["segments"][0]["words"][0])
    again["start_seconds"] += 0.1
    found["segments"].append(found["segments"][0] | {"words": [again]})
    assert compare(UNDISTURBED, found) == Counts(words=8, twice=1)


@pytest.mark.parametrize(
    ("field", "value"), [("text", "thanks"), ("start_seconds", 1.1), ("end_seconds", 1.4)], ids=str
)
def test_another_word_in_its_place_is_changed(found: dict[str, Any], field: str, value: object) -> None:
    found["segments"][0]["words"][0][field] = value
    assert compare(UNDISTURBED, found) == Counts(words=8, changed=1)


def test_words_of_another_speaker_are_changed(found: dict[str, Any]) -> None:
    found["segments"][0]["speaker"] = "unknown"
    assert compare(UNDISTURBED, found) == Counts(words=8, changed=4)


def test_words_where_nothing_was_said_are_invented(found: dict[str, Any]) -> None:
    word = {"text": "you", "start_seconds": 90.0, "end_seconds": 90.5, "probability": 0.5}
    found["segments"].append(found["segments"][0] | {"words": [word]})
    assert compare(UNDISTURBED, found) == Counts(words=8, invented=1)


def test_words_of_two_channels_at_one_time_are_two_words(found: dict[str, Any]) -> None:
    found["segments"][0]["channel"] = 1
    assert compare(UNDISTURBED, found) == Counts(words=8, lost=4, invented=4)


def test_a_gap_is_counted_once_unless_it_was_there_undisturbed(found: dict[str, Any]) -> None:
    gap = {"channel": 0, "start_seconds": 9.0, "end_seconds": 9.4, "reason": "missing_audio"}
    found["gaps"].append(gap)
    assert compare(UNDISTURBED, found) == Counts(words=8, gaps=1)
    assert compare({**UNDISTURBED, "gaps": [gap]}, found).is_clean
    assert compare({**UNDISTURBED, "gaps": [gap]}, UNDISTURBED) == Counts(words=8, otherwise=1)


def test_segments_that_are_cut_elsewhere_make_another_transcript(found: dict[str, Any]) -> None:
    first, second = found["segments"]
    first["words"].append(second["words"].pop(0))
    assert compare(UNDISTURBED, found) == Counts(words=8, otherwise=1)
    assert not compare(UNDISTURBED, found).is_clean


@pytest.mark.parametrize(("field", "value"), [("state", "interrupted"), ("duration_seconds", 3.0), ("channels", [])])
def test_whatever_else_differs_makes_another_transcript(found: dict[str, Any], field: str, value: object) -> None:
    found[field] = value
    assert compare(UNDISTURBED, found) == Counts(words=8, otherwise=1)


def test_a_call_may_be_degraded_more_often_only_when_it_was_poisoned(found: dict[str, Any]) -> None:
    found["degraded"].append({"channel": 0, "start_seconds": None, "stage": "asr", "reason": "CodecError"})
    assert compare(UNDISTURBED, found) == Counts(words=8, otherwise=1)
    assert compare(UNDISTURBED, found, is_poisoned=True).is_clean
    assert not compare({**UNDISTURBED, "degraded": found["degraded"]}, UNDISTURBED, is_poisoned=True).is_clean


def test_counts_add_up() -> None:
    one = Counts(words=8, lost=1, twice=2, changed=3, invented=4, gaps=5, otherwise=1)
    assert total([one, one]) == Counts(words=16, lost=2, twice=4, changed=6, invented=8, gaps=10, otherwise=2)
    assert total([]) == Counts()


WORDS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6).map(" ".join)
TRANSCRIPTS = st.lists(WORDS, min_size=1, max_size=4).map(lambda texts: document(*texts))


@given(transcript=TRANSCRIPTS, data=st.data())
def test_any_words_taken_away_are_lost_and_any_said_again_are_twice(transcript: dict[str, Any], data: Any) -> None:
    spoilt = copy.deepcopy(transcript)
    lost = twice = 0
    for segment in spoilt["segments"]:
        fates = data.draw(st.lists(st.sampled_from([0, 1, 2]), min_size=len(segment["words"]), max_size=6))
        segment["words"] = [word for word, fate in zip(segment["words"], fates, strict=False) for _ in range(fate)]
        fates = fates[: len(segment["text"].split())]
        lost, twice = lost + fates.count(0), twice + fates.count(2)
    counts = compare(transcript, spoilt)
    assert (counts.lost, counts.twice, counts.changed, counts.invented) == (lost, twice, 0, 0)
    assert counts.is_clean == (not lost and not twice)


@given(transcript=TRANSCRIPTS, other=TRANSCRIPTS)
def test_two_transcripts_are_clean_exactly_when_they_are_equal(
    transcript: dict[str, Any], other: dict[str, Any]
) -> None:
    assert compare(transcript, transcript).is_clean
    assert compare(transcript, other).is_clean == (transcript == other)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 3.0), (0.95, 5.0), (1.0, 5.0)])
def test_percentiles_are_values_that_were_there(share: float, value: float) -> None:
    assert percentile([5.0, 1.0, 4.0, 2.0, 3.0], share) == value


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([], 0.5) is None
