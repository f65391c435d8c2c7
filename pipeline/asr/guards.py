"""Guards: recognised text that must not become words. Each returns its name, or None when the text may pass."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from pipeline.asr.hypothesis import HypothesisWord

MAX_COMPRESSION_RATIO = 2.4  # Radford et al., arXiv 2212.04356, 4.5
MAX_WORDS_PER_SECOND = 9.0
MAX_NO_SPEECH_PROBABILITY = 0.6  # both from the reference implementation of the same paper
SURE_LOG_PROBABILITY = -1.0


def refused_by(
    words: Sequence[HypothesisWord],
    *,
    seconds: float,
    min_mean_log_probability: float,
    no_speech_probability: float = 0.0,
) -> str | None:
    """Return the name of the first guard that refuses ``words`` over ``seconds`` of audio, or None."""
    if not words:
        return None
    probabilities = [value for word in words for value in word.log_probabilities]
    mean = sum(probabilities) / len(probabilities)
    if mean < min_mean_log_probability:
        return "log_probability"
    if no_speech_probability > MAX_NO_SPEECH_PROBABILITY and mean < SURE_LOG_PROBABILITY:
        return "no_speech"
    text = " ".join(word.text for word in words).encode()
    if len(text) > 60 and len(text) / len(zlib.compress(text)) > MAX_COMPRESSION_RATIO:
        return "repetition"
    if len(words) > 3 and len(words) > MAX_WORDS_PER_SECOND * max(seconds, 0.5):
        return "word_rate"
    return None
