"""faster-whisper's model on CTranslate2: one window in, one hypothesis with attended frames out.

The encoder runs once per window. `generate` is greedy with the committed tokens as forced prefix; one teacher-forced `align`
over the same encoder output then gives the first attended frame of every token (CTranslate2 exposes no per-step attention).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer

from pipeline.asr.hypothesis import FRAME, AsrWork, Hypothesis, HypothesisWord
from pipeline.core.errors import NotReadyError
from pipeline.core.text import joined

RATE = 16_000
MAX_CONTEXT = 448  # text positions of the Whisper decoder
MAX_TOKENS_PER_SECOND = 14


class WhisperEngine:
    """A loaded model. ``infer`` may run on several threads; each item is decoded alone, so that company changes nothing.

    Raises NotReadyError when the model cannot be loaded or fails its self-test.
    """

    def __init__(
        self, folder: str, *, device: str, compute_type: str, threads: int, padding_seconds: float, workers: int = 1
    ) -> None:
        try:
            self._model = WhisperModel(
                folder,
                device=device,
                compute_type=compute_type,
                cpu_threads=threads,
                num_workers=workers,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise NotReadyError(f"the model in {folder} cannot be loaded: {error}") from error
        self._padding = round(padding_seconds * RATE)
        self._tokenizer = lru_cache(maxsize=32)(self._make_tokenizer)

    def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
        """Return one hypothesis per window."""
        return [self._decode(work) for work in batch]

    def self_test(self, expected: str | None = None, audio: Any = None) -> None:
        """Decode once, so that the first call does not pay for it. Raises NotReadyError on scores that are not finite,
        or, when ``expected`` is given for ``audio`` (int16 at 16 kHz), on another text.
        """
        samples = np.zeros(RATE, dtype=np.int16) if audio is None else audio
        work = AsrWork(
            audio=samples, prefix=(), prompt_tokens=(), prompt=None, hot_words=(), language="en", is_final=True
        )
        hypothesis = self._decode(work)
        if not math.isfinite(hypothesis.no_speech_probability) or any(
            not math.isfinite(value) for word in hypothesis.words for value in word.log_probabilities
        ):
            raise NotReadyError("the model's self-test failed: its scores are not finite")
        if expected is not None and joined(hypothesis.words) != expected:
            raise NotReadyError("the model's self-test failed: it does not reproduce the text in its card")

    def _make_tokenizer(self, language: str) -> Tokenizer:
        return Tokenizer(
            self._model.hf_tokenizer, self._model.model.is_multilingual, task="transcribe", language=language
        )

    def _decode(self, work: AsrWork) -> Hypothesis:
        tokenizer = self._tokenizer(work.language)
        audio = np.concatenate([work.audio.astype(np.float32) / 32768.0, np.zeros(self._padding, dtype=np.float32)])
        features = np.ascontiguousarray(self._model.feature_extractor(audio, padding=0)[None])
        encoded = self._model.model.encode(ctranslate2.StorageView.from_array(features), to_cpu=False)
        head = self._head(tokenizer, work)
        prompt = [*head, *work.prefix]
        limit = len(prompt) + 16 + MAX_TOKENS_PER_SECOND * (len(work.audio) // RATE + 1)
        result = self._model.model.generate(
            encoded,
            [prompt],
            beam_size=1,
            max_length=min(MAX_CONTEXT, limit),
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self._suppressed(tokenizer),
        )[0]
        tokens = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
        if tuple(tokens[: len(work.prefix)]) != work.prefix:
            tokens = [*work.prefix, *tokens]
        if len(tokens) == len(work.prefix):
            return Hypothesis(words=(), end_frame=work.frames, no_speech_probability=result.no_speech_prob)
        start = list(tokenizer.sot_sequence)
        aligned = self._model.model.align(
            encoded, start, [tokens], [len(work.audio) // (FRAME // 2)], median_filter_width=7
        )[0]
        first: dict[int, int] = {}
        for token, frame in aligned.alignments:
            first.setdefault(int(token), int(frame))
        frames = [first.get(index, work.frames) for index in range(len(tokens) + 1)]
        scores = [math.log(max(float(value), 1e-10)) for value in aligned.text_token_probs]
        words = tuple(_words(tokenizer, tokens, len(work.prefix), frames, scores))
        return Hypothesis(words=words, end_frame=frames[-1], no_speech_probability=result.no_speech_prob)

    def _head(self, tokenizer: Tokenizer, work: AsrWork) -> list[int]:
        """Return the tokens before the prefix: earlier text, if any, and the start-of-transcript sequence."""
        earlier: list[int] = []
        if work.hot_words:
            earlier += tokenizer.encode(" " + " ".join(work.hot_words))
        if work.prompt:
            earlier += tokenizer.encode(" " + work.prompt.strip())
        earlier = [*earlier[: MAX_CONTEXT // 4], *work.prompt_tokens]
        before = [tokenizer.sot_prev, *earlier[-(MAX_CONTEXT // 2 - 1) :]] if earlier else []
        return [*before, *tokenizer.sot_sequence, tokenizer.no_timestamps]

    def _suppressed(self, tokenizer: Tokenizer) -> list[int]:
        return sorted(
            {
                tokenizer.transcribe,
                tokenizer.translate,
                tokenizer.sot,
                tokenizer.sot_prev,
                tokenizer.sot_lm,
                tokenizer.no_timestamps,
            }
        )


def _words(
    tokenizer: Tokenizer, tokens: list[int], begin: int, frames: list[int], scores: list[float]
) -> Iterator[HypothesisWord]:
    """Group the tokens from ``begin`` on into words; punctuation belongs to the word before it."""
    texts, groups = tokenizer.split_to_word_tokens([*tokens[begin:], tokenizer.eot])
    spans: list[tuple[str, int, int]] = []
    position = begin
    for text, group in zip(texts[:-1], groups[:-1], strict=True):
        end = position + len(group)
        is_tied = bool(text.strip()) and not text.startswith(" ") and not any(character.isalnum() for character in text)
        if spans and (is_tied or not text.strip()):
            spans[-1] = (spans[-1][0] + text, spans[-1][1], end)
        elif text.strip():
            spans.append((text, position, end))
        position = end
    for text, first, end in spans:
        yield HypothesisWord(
            text=text.strip(),
            tokens=tuple(tokens[first:end]),
            frames=tuple(frames[first:end]),
            end_frame=frames[end],
            log_probabilities=tuple(scores[first:end]),
            is_joined=not text.startswith(" "),
        )
