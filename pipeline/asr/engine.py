"""One Whisper model on CTranslate2: windows of audio in, hypotheses with attended frames out.

The encoder runs once per window. `generate` is greedy with the committed tokens as forced prefix; one teacher-forced `align`
over the same encoder output then gives the first attended frame of every token (CTranslate2 exposes no per-step attention).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from numpy.typing import NDArray

from pipeline.asr.decoding import generate_length, head_of, suppressed, text_limit, words_of
from pipeline.asr.features import LogMel
from pipeline.asr.hypothesis import FRAME, AsrWork, Hypothesis
from pipeline.asr.profiles import ModelProfile
from pipeline.core.errors import FatalError, NotReadyError

log = logging.getLogger(__name__)

RATE = 16_000
LONGEST = 30 * RATE  # samples that the encoder takes, padding included
BUCKET = (
    RATE  # windows that are decoded together are padded to the same multiple of this; steps are mostly whole seconds
)
SHORTEST = 400  # samples of one short-time spectrum
GPU_BATCH = 16
LOWEST_PROBABILITY = 1e-10


class WhisperEngine:
    """A loaded model. ``infer`` may run on several threads.

    On a CPU every window is decoded alone, so that company changes nothing. ``is_batched`` (None: on a GPU) decodes windows of
    similar length together, at most ``max_batch``; the last bit of a score may then depend on the company. ``workers`` windows
    are decoded at the same time, with ``threads`` threads each. Raises NotReadyError when the model cannot be loaded.
    """

    def __init__(
        self,
        folder: str,
        profile: ModelProfile,
        *,
        device: str = "cpu",
        compute_type: str = "default",
        threads: int = 1,
        workers: int = 1,
        is_batched: bool | None = None,
        max_batch: int = GPU_BATCH,
    ) -> None:
        try:
            model = WhisperModel(
                folder,
                device=device,
                compute_type=compute_type,
                cpu_threads=threads,
                num_workers=workers,
                local_files_only=True,
            )
        except Exception as error:  # what a damaged file raises depends on where it is damaged
            reason = " ".join(str(error).split()) or type(error).__name__
            raise NotReadyError(f"model {profile.name!r} cannot be loaded from {folder}: {reason}") from error
        self._profile = profile
        self._whisper = model.model
        self._is_multilingual = self._whisper.is_multilingual or profile.is_multilingual
        self._spelling = model.hf_tokenizer
        self._log_mel = LogMel(self._whisper.n_mels)
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}
        plain = self._tokenizer("en", "transcribe")
        self._encode = lru_cache(maxsize=256)(plain.encode)
        self._suppressed = suppressed(plain, annotations=profile.suppress_annotations)
        self._is_batched = self.device == "cuda" if is_batched is None else is_batched
        self._max_batch = max_batch

    @property
    def device(self) -> str:
        """Return where the model runs: ``cpu`` or ``cuda``."""
        return str(self._whisper.device)

    @property
    def compute_type(self) -> str:
        """Return the type of the weights in memory."""
        return str(self._whisper.compute_type)

    @property
    def max_batch(self) -> int:
        """Return how many windows are decoded together at most."""
        return self._max_batch if self._is_batched else 1

    def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
        """Return one hypothesis per window, in order.

        A window whose prefix leaves no room for new text in the decoder is answered by an empty, capped hypothesis. Raises
        FatalError when memory does not suffice for one window, or a window is longer than the encoder takes.
        """
        results: dict[int, Hypothesis] = {}
        companies: dict[Hashable, list[int]] = {}
        for index, work in enumerate(batch):
            head = self._head(work, work.language or "en")
            if head is None or not work.frames:
                results[index] = _nothing(work, is_capped=head is None)
            else:
                company = (self._samples(work), len(head), work.language, work.task) if self._is_batched else index
                companies.setdefault(company, []).append(index)
        for members in companies.values():
            results.update(zip(members, self._within_memory([batch[index] for index in members]), strict=True))
        return [results[index] for index in range(len(batch))]

    def _within_memory(self, works: Sequence[AsrWork]) -> list[Hypothesis]:
        """Decode windows of one company together, in smaller batches when the device has not enough memory."""
        done: list[Hypothesis] = []
        while len(done) < len(works):
            part = works[len(done) : len(done) + self.max_batch]
            try:
                done += self._decode(part)
            except (RuntimeError, MemoryError) as error:
                if not _may_be_too_large(error):
                    raise
                seconds = self._samples(part[0]) / RATE
                if len(part) == 1:
                    text = f"model {self._profile.name!r} cannot decode a window of {seconds:.1f} s on {self.device}: {error}"
                    raise FatalError(text) from error
                self._max_batch = len(part) // 2
                log.warning(
                    "model %s: not enough memory for %d windows of %.1f s, trying %d",
                    self._profile.name,
                    len(part),
                    seconds,
                    self._max_batch,
                )
        return done

    def _decode(self, works: Sequence[AsrWork]) -> list[Hypothesis]:
        """Decode windows of one company: one encoding, one generation, one alignment for all."""
        encoded = self._whisper.encode(ctranslate2.StorageView.from_array(self._features(works)), to_cpu=False)
        spoken = self._spoken(encoded, works)
        heads = [self._head(work, language) or [] for work, (language, _) in zip(works, spoken, strict=True)]
        limits = [text_limit(head, work) for head, work in zip(heads, works, strict=True)]
        generated = self._whisper.generate(
            encoded,
            [[*head, *work.prefix] for head, work in zip(heads, works, strict=True)],
            beam_size=1,
            max_length=generate_length(heads[0], max(limits)),
            suppress_blank=False,  # else the first token behind a prefix cannot be the end of the text
            suppress_tokens=self._suppressed,
        )
        end = self._tokenizer("en", "transcribe").eot
        raw = [result.sequences_ids[0][:limit] for result, limit in zip(generated, limits, strict=True)]
        texts = [[token for token in tokens if token < end] for tokens in raw]
        tokenizers = [self._tokenizer(language, work.task) for work, (language, _) in zip(works, spoken, strict=True)]
        aligned = self._aligned(encoded, works, tokenizers, texts)
        silences = self._no_speech(encoded, heads, works, aligned)
        hypotheses = []
        for index, work in enumerate(works):
            words, end_frame = _words(work, tokenizers[index], texts[index], aligned[index])
            language, probability = spoken[index]
            hypotheses.append(
                Hypothesis(
                    words=words,
                    end_frame=end_frame,
                    no_speech_probability=silences[index],
                    is_capped=len(raw[index]) >= limits[index],
                    language=None if probability is None else language,
                    language_probability=probability,
                )
            )
        return hypotheses

    def _features(self, works: Sequence[AsrWork]) -> NDArray[np.float32]:
        """Return the log-mel features of windows of one company, padded with zeros: float32 [windows, mel bins, frames]."""
        length = self._samples(works[0])
        return np.stack([self._log_mel(work.audio, length) for work in works])

    def _spoken(self, encoded: Any, works: Sequence[AsrWork]) -> list[tuple[str, float | None]]:
        """Return the language of every window, with its probability among the offered ones where it had to be detected."""
        language = works[0].language
        if language is not None:
            return [(language, None)] * len(works)
        offered = self._profile.languages
        if not self._whisper.is_multilingual:  # by CTranslate2's measure, which then detects nothing
            offered = offered[:1] or ("en",)
        if len(offered) == 1:
            return [(offered[0], 1.0)] * len(works)
        return [_likeliest(found, offered) for found in self._whisper.detect_language(encoded)]

    def _aligned(
        self, encoded: Any, works: Sequence[AsrWork], tokenizers: Sequence[Tokenizer], texts: Sequence[list[int]]
    ) -> list[Any]:
        """Return the alignment of every text, None for one without new tokens.

        CTranslate2 takes one start sequence for all, so languages that were just detected may need an alignment each.
        """
        aligned: list[Any] = [None] * len(works)
        starts: dict[tuple[int, ...], list[int]] = {}
        for index, tokenizer in enumerate(tokenizers):
            if len(texts[index]) > len(works[index].prefix):
                starts.setdefault(tuple(tokenizer.sot_sequence), []).append(index)
        lengths = [len(work.audio) // (FRAME // 2) for work in works]
        for start, members in starts.items():
            found = self._whisper.align(encoded, list(start), texts, lengths, median_filter_width=7)
            for index in members:
                aligned[index] = found[index]
        return aligned

    def _no_speech(
        self, encoded: Any, heads: Sequence[list[int]], works: Sequence[AsrWork], aligned: Sequence[Any]
    ) -> list[float]:
        """Return the probability that nobody speaks, 0 for text that the model is sure of: nobody asks then.

        It takes the decoder two milliseconds, as much as two words.
        """
        doubts = [
            _is_doubtful(found, len(work.prefix), self._profile) for found, work in zip(aligned, works, strict=True)
        ]
        if not any(doubts):
            return [0.0] * len(works)
        length = generate_length(heads[0], 1)
        found = self._whisper.generate(
            encoded, [list(head) for head in heads], beam_size=1, max_length=length, return_no_speech_prob=True
        )
        return [result.no_speech_prob if doubt else 0.0 for result, doubt in zip(found, doubts, strict=True)]

    def _head(self, work: AsrWork, language: str) -> list[int] | None:
        return head_of(self._tokenizer(language, work.task), work, self._encode)

    def _tokenizer(self, language: str, task: str) -> Tokenizer:
        found = self._tokenizers.get((language, task))
        if found is None:
            found = Tokenizer(self._spelling, self._is_multilingual, task=task, language=language)
            if task == "translate":
                found.language_code = "en"  # decides how tokens become words; a translation is English
            self._tokenizers[language, task] = found
        return found

    def _samples(self, work: AsrWork) -> int:
        """Return the length of a window as it is encoded: with its padding, and in company the same for all."""
        count = len(work.audio)
        if count > LONGEST:
            raise FatalError(
                f"a window of {count / RATE:.1f} s is longer than the {LONGEST // RATE} s of a Whisper encoder"
            )
        length = math.ceil(count / BUCKET) * BUCKET if self._is_batched else count
        return max(min(length + round(self._profile.padding_seconds * RATE), LONGEST), SHORTEST)


def bucket_of(work: AsrWork) -> Hashable:
    """Return what windows have in common that can be decoded together: model, task, language, text before them, length."""
    length = math.ceil(len(work.audio) / BUCKET)
    return (work.model, work.task, work.language, length, work.prompt, work.hot_words, len(work.prompt_tokens))


def resolve_device(device: str, compute_type: str) -> str:
    """Return ``cpu`` or ``cuda`` for the settings asr.device (auto: a GPU where there is one) and asr.compute_type.

    Raises NotReadyError when there is no such device, or it cannot compute with such numbers.
    """
    has_gpu = ctranslate2.get_cuda_device_count() > 0
    if device == "cuda" and not has_gpu:
        raise NotReadyError(
            "asr.device is cuda, but CTranslate2 finds no CUDA device here: check the driver, or use cpu"
        )
    chosen = "cuda" if has_gpu and device != "cpu" else "cpu"
    known = ctranslate2.get_supported_compute_types(chosen)
    if compute_type not in ("default", "auto", *known):
        names = ", ".join(["default", "auto", *sorted(known)])
        raise NotReadyError(f"asr.compute_type is {compute_type!r}, but this {chosen} has {names}")
    return chosen


def _words(work: AsrWork, tokenizer: Tokenizer, text: list[int], aligned: Any) -> tuple[tuple[Any, ...], int]:
    """Return the words behind the prefix, and the frame attended at the end of the text."""
    if aligned is None:
        return (), work.frames
    first: dict[int, int] = {}
    for token, frame in aligned.alignments:
        first.setdefault(int(token), int(frame))
    frames = [first.get(index, work.frames) for index in range(len(text) + 1)]
    scores = [math.log(max(float(value), LOWEST_PROBABILITY)) for value in aligned.text_token_probs]
    return tuple(words_of(tokenizer, text, len(work.prefix), frames, scores)), frames[-1]


def _is_doubtful(aligned: Any, prefix: int, profile: ModelProfile) -> bool:
    """Return whether the model was not sure of the new text, by the mean log probability of its tokens, or had none."""
    if aligned is None:
        return True
    scores = [math.log(max(float(value), LOWEST_PROBABILITY)) for value in aligned.text_token_probs[prefix:]]
    return bool(scores) and sum(scores) / len(scores) < profile.sure_log_probability


def _likeliest(found: Sequence[tuple[str, float]], offered: Sequence[str]) -> tuple[str, float]:
    """Return the most probable language of those offered (empty: all), and its probability among them."""
    shares = {token.strip("<|>"): share for token, share in found}
    among = {language: share for language, share in shares.items() if not offered or language in offered}
    language = max(among, key=lambda name: among[name])
    return language, among[language] / max(sum(among.values()), 1e-30)


def _nothing(work: AsrWork, *, is_capped: bool) -> Hypothesis:
    return Hypothesis(words=(), end_frame=work.frames, no_speech_probability=0.0, is_capped=is_capped)


def _may_be_too_large(error: Exception) -> bool:
    """Return whether a smaller batch may help. Not every library of a GPU says "out of memory" when it has none."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(name in text for name in ("out of memory", "cuda", "cublas", "cudnn"))
