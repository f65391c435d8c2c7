"""Word error rate: substitutions, deletions and insertions of the cheapest alignment, per reference word.

The distance is Levenshtein's over words; the same figures as NIST's sclite and jiwer give on equal words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class WordErrors:
    """Errors against a reference of ``words`` words; add them up to score several calls together."""

    errors: int
    words: int

    @property
    def rate(self) -> float:
        """Return errors per reference word; may exceed 1. With an empty reference, the number of errors."""
        return self.errors / max(self.words, 1)

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(errors=self.errors + other.errors, words=self.words + other.words)


def normalise(text: str) -> tuple[str, ...]:
    """Return the words of ``text`` in lower case and without punctuation; apostrophes inside words stay.

    Words are what spaces and punctuation separate, so languages written without spaces need another measure.
    """
    lowered = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in lowered)
    return tuple(word for raw in kept.split() if (word := raw.strip("'")))


def word_error_rate(reference_words: Sequence[str], hypothesis_words: Sequence[str]) -> WordErrors:
    """Return the errors of the hypothesis against the reference. Words are compared as they are: see `normalise`."""
    numbers: dict[str, int] = {}
    reference = [numbers.setdefault(word, len(numbers)) for word in reference_words]
    hypothesis = np.array([numbers.setdefault(word, len(numbers)) for word in hypothesis_words], dtype=np.int64)
    positions = np.arange(len(hypothesis) + 1)
    row = positions.copy()
    for word in reference:
        reached = np.empty_like(row)
        reached[0] = row[0] + 1
        np.minimum(row[1:] + 1, row[:-1] + (hypothesis != word), out=reached[1:])
        # An insertion costs one per step to the right: a running minimum over the row with that slope taken out.
        row = np.minimum.accumulate(reached - positions) + positions
    return WordErrors(errors=int(row[-1]), words=len(reference))
