from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.matching import equal_pairs, matched
from pipeline.core.wer import word_error_rate

WORDS = st.lists(st.sampled_from("abc"), max_size=9)


@given(WORDS, WORDS)
def test_the_alignment_costs_what_the_word_error_rate_counts(reference: list[str], hypothesis: list[str]) -> None:
    pairs = equal_pairs(reference, hypothesis)
    assert all(reference[i] == hypothesis[j] for i, j in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))
    # Between two pairs the cheapest alignment substitutes as far as it can, and inserts or deletes the rest.
    ends = [(-1, -1), *pairs, (len(reference), len(hypothesis))]
    cost = sum(max(c - a, d - b) - 1 for (a, b), (c, d) in pairwise(ends))
    assert cost == word_error_rate(reference, hypothesis).errors


def test_only_equal_words_are_paired() -> None:
    assert equal_pairs(["the", "cat", "sat"], ["a", "cat", "had", "sat"]) == [(1, 1), (2, 3)]
    assert equal_pairs([], ["a"]) == []


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert matched(["Hello,", "WORLD!"], ["hello", "World."]) == [(0, 0), (1, 1)]


def test_a_text_that_holds_several_words_is_matched_by_any_of_them() -> None:
    assert matched(["twenty-five", "euros"], ["twenty", "-five", "euros"]) == [(0, 0), (0, 1), (1, 2)]
    assert matched(["a", "-", "b"], ["a", "b"]) == [(0, 0), (2, 1)]
