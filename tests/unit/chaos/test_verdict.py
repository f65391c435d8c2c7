"""The instrument must be able to fail: each kind of damage is counted as what it is."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.chaos.verdict import Counts, compare, percentile, total

WORDS = (("hello", 1.0), ("there", 1.5), ("again", 3.0))


def transcript(*words: tuple[str, float], gaps: tuple[float, ...] = (), speaker: str = "agent") -> dict[str, Any]:
    return {
        "segments": [
            {
                "channel": 0,
                "speaker": speaker,
                "words": [{"text": text, "start_seconds": at, "end_seconds": at + 0.4} for text, at in words],
            }
        ],
        "gaps": [{"channel": 0, "start_seconds": at, "end_seconds": at + 1} for at in gaps],
    }


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (transcript(*WORDS), Counts(words=3)),
        (transcript(*WORDS[:2]), Counts(words=3, lost=1)),
        (None, Counts(words=3, lost=3)),
        (transcript(*WORDS, WORDS[0]), Counts(words=3, twice=1)),
        (transcript(*WORDS, ("hello", 1.2)), Counts(words=3, twice=1)),
        (transcript(("hallo", 1.0), *WORDS[1:]), Counts(words=3, changed=1)),
        (transcript(("hello", 1.01), *WORDS[1:]), Counts(words=3, changed=1)),
        (transcript(*WORDS, speaker="customer"), Counts(words=3, changed=3)),
        (transcript(*WORDS, ("what", 9.0)), Counts(words=3, invented=1)),
        (transcript(*WORDS, gaps=(2.0,)), Counts(words=3, gaps=1)),
    ],
)
def test_damage_is_counted(found: dict[str, Any] | None, counts: Counts) -> None:
    assert compare(transcript(*WORDS), found) == counts
    assert counts.is_clean == (counts == Counts(words=3))


def test_a_gap_of_the_undisturbed_call_is_none_of_ours() -> None:
    assert compare(transcript(gaps=(2.0,)), transcript(gaps=(2.0,))) == Counts()


def test_counts_add_up() -> None:
    assert total([Counts(words=2, lost=1), Counts(words=3, gaps=2)]) == Counts(words=5, lost=1, gaps=2)


def test_percentiles() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0, 2.0], 0.95) == 2.0
