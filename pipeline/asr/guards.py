"""Guards: recognised text that must not become words. Each returns its name, or None when the text may pass."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from pipeline.asr.hypothesis import HypothesisWord

MAX_COMPRESSION_RATIO = 2.4  # Radford et al., arXiv 2212.04356, 4.5
MAX_WORDS_PER_SECOND = 9.0


def refused_by(words: Sequence[HypothesisWord], *, seconds: float, min_mean_log_probability: float) -> str | None:
    """Return the name of the first guard that refuses ``words`` over ``seconds`` of audio, or None."""
    if not words:
        return None
    probabilities = [value for word in words for value in word.log_probabilities]
    if sum(probabilities) / len(probabilities) < min_mean_log_probability:
        return "log_probability"
    text = " ".join(word.text for word in words).encode()
    if len(text) > 60 and len(text) / len(zlib.compress(text)) > MAX_COMPRESSION_RATIO:
        return "repetition"
    if len(words) > 3 and len(words) > MAX_WORDS_PER_SECOND * max(seconds, 0.5):
        return "word_rate"
    return None
