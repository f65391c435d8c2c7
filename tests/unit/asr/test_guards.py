from __future__ import annotations

import pytest

from pipeline.asr.guards import refused_by
from pipeline.asr.hypothesis import HypothesisWord


def words(text: str, score: float = -0.1) -> list[HypothesisWord]:
    return [
        HypothesisWord(text=word, tokens=(1,), frames=(0,), end_frame=1, log_probabilities=(score,))
        for word in text.split()
    ]


@pytest.mark.parametrize(
    ("text", "score", "seconds", "expected"),
    [
        ("", -9.0, 1.0, None),
        ("thank you for calling", -0.2, 2.0, None),
        ("thank you for calling", -3.5, 2.0, "log_probability"),
        ("you " * 30, -0.2, 20.0, "repetition"),
        ("no no no", -0.2, 1.0, None),  # people do say so
        ("one two three four five six seven eight nine ten", -0.2, 1.0, "word_rate"),
        ("a b c", -0.2, 0.1, None),  # too few to tell
    ],
)
def test_what_is_refused(text: str, score: float, seconds: float, expected: str | None) -> None:
    assert refused_by(words(text, score), seconds=seconds, min_mean_log_probability=-3.0) == expected


def test_the_mean_counts_not_the_worst_token() -> None:
    mixed = [*words("a b c d", -0.1), *words("e", -9.0)]
    assert refused_by(mixed, seconds=3.0, min_mean_log_probability=-3.0) is None
