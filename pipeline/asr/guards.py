"""Guards: recognised text that must not become words. Each has a name, under which refusals are counted and reported.

Thresholds without a source were chosen on the shipped calls and on silence, tones, noise and music (`callscribe bench policy`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.asr.hypothesis import FRAME, Hypothesis, HypothesisWord
from pipeline.asr.sounds import loudness, no_speech_in

MAX_COMPRESSION_RATIO = 2.4  # Radford et al., arXiv 2212.04356, 4.5
MAX_NO_SPEECH_PROBABILITY = 0.6  # both from the reference implementation of the same paper
MAX_WORDS_PER_SECOND = 9.0
LOOP_WORDS = 12  # a phrase repeated over so many words is a loop; one word needs LOOP_REPEATS
LOOP_REPEATS = 8
LONGEST_LOOP = 8
ECHO_WORDS = 4
ECHO_NO_SPEECH_PROBABILITY = 0.3
QUIETEST_RMS = 10.0  # of int16; -70 dBFS
QUIET_SHARE = 1 / 200  # of the loudest 20 ms of the window; -46 dB

GUARDS = (
    "unsure",
    "token_limit",
    "log_probability",
    "no_speech",
    "repetition",
    "word_rate",
    "prompt_echo",
    "silence",
    "tone",
    "noise",
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Evidence:
    """What the guards look at besides the words.

    ``audio`` is the window, int16 [samples] at 16 kHz, ``begin`` the sample in it where uncommitted audio begins.
    ``before`` are the words already committed in the window, ``prompt`` the text the decoder was given, ``disabled`` the guards
    that the deployment has switched off.
    """

    audio: NDArray[np.int16]
    begin: int
    before: Sequence[str]
    prompt: str
    min_mean_log_probability: float
    sure_log_probability: float
    disabled: Container[str] = ()


def refused_by(hypothesis: Hypothesis, words: Sequence[HypothesisWord], evidence: Evidence) -> str | None:
    """Return the name of the first guard that refuses ``words`` of a hypothesis, or None when they may be committed."""
    return next((name for name in _objections(hypothesis, words, evidence) if name not in evidence.disabled), None)


def _objections(hypothesis: Hypothesis, words: Sequence[HypothesisWord], evidence: Evidence) -> Iterator[str]:
    if not words:
        return
    mean = mean_of(words)
    if mean < evidence.min_mean_log_probability:
        yield "log_probability"
    is_sure = mean >= evidence.sure_log_probability
    if hypothesis.no_speech_probability > MAX_NO_SPEECH_PROBABILITY and not is_sure:
        yield "no_speech"
    if _is_loop([*evidence.before, *(word.text for word in words)], len(words)):
        yield "repetition"
    seconds = (len(evidence.audio) - evidence.begin) / (50 * FRAME)
    if len(words) > 3 and len(words) > MAX_WORDS_PER_SECOND * max(seconds, 0.5):
        yield "word_rate"
    if not evidence.before and _is_echo(hypothesis, words, evidence.prompt, is_sure=is_sure):
        yield "prompt_echo"
    if sound := no_speech_in(evidence.audio[evidence.begin :]):
        yield sound


def heard(words: Sequence[HypothesisWord], evidence: Evidence) -> int:
    """Return how many leading words are left when trailing ones that lie in silence are taken away (guard ``silence``)."""
    if not words or "silence" in evidence.disabled:
        return len(words)
    levels = loudness(evidence.audio)
    floor = max(QUIETEST_RMS, float(levels.max(initial=0.0)) * QUIET_SHARE)
    count = len(words)
    while count:
        word = words[count - 1]
        span = levels[max(word.frames[0] - 5, 0) : max(word.end_frame + 5, word.frames[0] + 1)]
        if span.max(initial=0.0) >= floor:
            break
        count -= 1
    return count


def mean_of(words: Sequence[HypothesisWord]) -> float:
    """Return the mean log probability of the tokens of ``words``, of which there is at least one."""
    values = [value for word in words for value in word.log_probabilities]
    return sum(values) / len(values)


def _is_loop(texts: Sequence[str], fresh: int) -> bool:
    """Return whether the text runs in a loop at its end, or compresses as only loops do."""
    words = [word for text in texts if (word := _plain(text))]
    for length in range(1, LONGEST_LOOP + 1):
        repeats = 1
        while words[-length:] == words[-(repeats + 1) * length : -repeats * length]:
            repeats += 1
        if repeats >= (LOOP_REPEATS if length == 1 else 3) and repeats * length >= min(
            LOOP_WORDS, LOOP_REPEATS * length
        ):
            return True
    text = " ".join(texts[-max(fresh, 30) :]).encode()
    return len(text) > 60 and len(text) / len(zlib.compress(text)) > MAX_COMPRESSION_RATIO


def _is_echo(hypothesis: Hypothesis, words: Sequence[HypothesisWord], prompt: str, *, is_sure: bool) -> bool:
    """Return whether the whole text repeats a part of the prompt while the model doubts that anybody spoke."""
    said = [plain for word in words if (plain := _plain(word.text))]
    if len(said) < ECHO_WORDS or not prompt:
        return False
    given = [plain for word in prompt.split() if (plain := _plain(word))]
    if not any(given[index : index + len(said)] == said for index in range(len(given) - len(said) + 1)):
        return False
    is_bunched = words[-1].frames[0] - words[0].frames[0] < 3 * len(words)  # 60 ms a word: attention that does not move
    return is_bunched or not is_sure or hypothesis.no_speech_probability > ECHO_NO_SPEECH_PROBABILITY


def _plain(text: str) -> str:
    return re.sub(r"[^\w']+", "", text.casefold())
