"""The model without streaming: a whole speech region to text, and a known text to the times of its words.

faster-whisper's model, features and tokenizer, CTranslate2's greedy decoding and alignment; nothing of the pipeline's own
recogniser, so that the streaming transcript is measured against something else than itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.asr.catalogue import profile_of
from pipeline.asr.loading import resolve_model
from pipeline.bench.audio import RATE
from pipeline.core.errors import NotReadyError
from pipeline.core.recognition import AUTOMATIC
from pipeline.runtime.settings import AsrSettings

LONGEST_SECONDS = 30.0  # of audio and padding that a Whisper encoder takes
MAX_CONTEXT = 448  # text positions of the Whisper decoder
MEL_HOP = 160  # samples between two mel frames
FRAME_SECONDS = 0.02  # of one encoder frame


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """A word of a given text and when it is spoken, in seconds from the start of the audio."""

    text: str
    start_seconds: float
    end_seconds: float


class OfflineModel:
    """The default model of the settings. Raises NotReadyError when it cannot be had or loaded."""

    def __init__(self, asr: AsrSettings) -> None:
        from faster_whisper import WhisperModel
        from faster_whisper.feature_extractor import FeatureExtractor
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        files = resolve_model(asr.model, cache=asr.model_cache)
        try:
            model = WhisperModel(
                str(files.folder),
                device=asr.device,
                compute_type=asr.compute_type,
                cpu_threads=asr.threads or 1,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise NotReadyError(f"model {asr.model!r} cannot be loaded from {files.folder}: {error}") from error
        self._whisper = model.model
        self._log_mel = FeatureExtractor(feature_size=self._whisper.n_mels)
        profile = profile_of(asr.model, files, asr)
        self._padding_seconds = profile.padding_seconds
        self._tokenizer = Tokenizer(
            model.hf_tokenizer,
            self._whisper.is_multilingual or profile.is_multilingual,
            task=asr.task,
            language="en" if asr.language == AUTOMATIC else asr.language,
        )
        self._suppressed = list(get_suppressed_tokens(self._tokenizer, [-1]))  # faster-whisper's default

    @property
    def longest_seconds(self) -> float:
        """Return how much audio fits with its padding into one window."""
        return LONGEST_SECONDS - self._padding_seconds

    def decode(self, audio: NDArray[np.float32]) -> str:
        """Return the greedy text of ``audio`` (float32, shape (samples,), 16 kHz, at most `longest_seconds`)."""
        tokenizer = self._tokenizer
        result = self._whisper.generate(
            self._encode(audio),
            [[*tokenizer.sot_sequence, tokenizer.no_timestamps]],
            beam_size=1,
            max_length=MAX_CONTEXT,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
        )[0]
        text: str = tokenizer.decode([token for token in result.sequences_ids[0] if token < tokenizer.eot])
        return text.strip()

    def align(self, audio: NDArray[np.float32], text: str) -> tuple[AlignedWord, ...]:
        """Return when each word of ``text`` (what spaces separate) is spoken in ``audio``, by one teacher-forced alignment.

        A word ends where the decoder attends for the token behind its last letter, be it punctuation or the next word; the
        last one where it attends for the end of the text. Empty when text or audio is too long for one window.
        """
        tokenizer = self._tokenizer
        tokens = tokenizer.encode(" " + " ".join(text.split()))
        is_long = len(audio) > self.longest_seconds * RATE or len(tokens) > MAX_CONTEXT // 2
        if is_long or not tokens or len(audio) < 2 * MEL_HOP:
            return ()
        aligned = self._whisper.align(
            self._encode(audio), list(tokenizer.sot_sequence), [tokens], [len(audio) // MEL_HOP], median_filter_width=7
        )[0]
        last = len(audio) / RATE
        starts: dict[int, float] = {}
        for token, frame in aligned.alignments:
            starts.setdefault(int(token), min(int(frame) * FRAME_SECONDS, last))
        begins = [starts.get(index, last) for index in range(len(tokens) + 1)]
        return tuple(
            AlignedWord(word, begins[first], begins[end]) for word, first, end in _word_tokens(tokenizer, tokens)
        )

    def _encode(self, audio: NDArray[np.float32]) -> Any:
        import ctranslate2

        padded = np.concatenate([audio, np.zeros(round(self._padding_seconds * RATE), dtype=np.float32)])
        features = np.ascontiguousarray(self._log_mel(padded, padding=0)[None])
        return self._whisper.encode(ctranslate2.StorageView.from_array(features), to_cpu=False)


@lru_cache(maxsize=2)
def offline_model(asr: AsrSettings) -> OfflineModel:
    """Return the default model of the settings, loaded once per process. Raises NotReadyError."""
    return OfflineModel(asr)


def _word_tokens(tokenizer: Any, tokens: list[int]) -> Iterator[tuple[str, int, int]]:
    """Yield each word with the index of its first token and of the token behind its last letter."""
    texts, groups = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
    word, first, end, position = "", 0, 0, 0
    for text, group in zip(texts[:-1], groups[:-1], strict=True):
        if text.startswith(" ") and word:
            yield word, first, end
            word, first, end = "", position, position
        word += text.strip()
        position += len(group)
        if end == first or any(character.isalnum() for character in text):
            end = position
    if word:
        yield word, first, position
