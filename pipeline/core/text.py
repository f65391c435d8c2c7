"""Words to text: the same for tentative and committed words, segments, captions and self-tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")


class SpokenWord(Protocol):
    """A word as any stage knows it."""

    @property
    def text(self) -> str:
        """Return the word with its punctuation, without surrounding space."""

    @property
    def is_joined(self) -> bool:
        """Return whether it follows its predecessor without a space."""


def joined(words: Iterable[SpokenWord]) -> str:
    """Return the words as running text."""
    return "".join(word.text if word.is_joined else f" {word.text}" for word in words).strip()
