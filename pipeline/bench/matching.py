"""Which words of a transcript are which words of the reference, by the alignment that the word error rate counts errors in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.core.wer import normalise

DIAGONAL, UP, LEFT = 0, 1, 2


def matched(reference: Sequence[str], heard: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs (index in ``reference``, index in ``heard``) of equal words, in order.

    Words are compared without case and punctuation; what stands between two spaces may hold several words ("twenty-five")
    and is matched when one of them is.
    """
    sides = []
    for texts in (reference, heard):
        parts = [(part, index) for index, text in enumerate(texts) for part in normalise(text)]
        sides.append(([part for part, _ in parts], [index for _, index in parts]))
    (said, said_in), (got, got_in) = sides
    return list(dict.fromkeys((said_in[i], got_in[j]) for i, j in equal_pairs(said, got)))


def equal_pairs(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs of indexes of equal words in a cheapest alignment (Levenshtein's over words), in order.

    Needs one byte of memory per pair of words.
    """
    numbers: dict[str, int] = {}
    said = [numbers.setdefault(word, len(numbers)) for word in reference]
    heard = np.array([numbers.setdefault(word, len(numbers)) for word in hypothesis], dtype=np.int64)
    positions = np.arange(len(heard) + 1)
    moves = np.full((len(said) + 1, len(heard) + 1), LEFT, dtype=np.int8)
    row = positions.copy()
    for number, word in enumerate(said, start=1):
        up = row + 1
        diagonal = np.concatenate([[len(said) + len(heard) + 1], row[:-1] + (heard != word)])
        reached = np.minimum(up, diagonal)
        # An insertion costs one per step to the right: a running minimum over the row with that slope taken out.
        row = np.minimum.accumulate(reached - positions) + positions
        moves[number, row == up] = UP
        moves[number, row == diagonal] = DIAGONAL
    pairs = []
    i, j = len(said), len(heard)
    while i > 0 or j > 0:
        move = moves[i, j]
        if move == DIAGONAL and said[i - 1] == heard[j - 1]:
            pairs.append((i - 1, j - 1))
        i -= move != LEFT
        j -= move != UP
    return pairs[::-1]
