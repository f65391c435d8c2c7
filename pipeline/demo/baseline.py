"""The offline transcript: each speech region recognised at once, by faster-whisper's own VAD, features and decoder.

The streaming transcript is measured against it. ``python -m pipeline.demo.baseline`` prints the word error rate of the
shipped calls.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core.wer import WordErrors, normalise, word_error_rate
from pipeline.demo.assets import MODEL, DemoCall, calls

RATE = 16_000
PADDING_SECONDS = 0.5
MAX_TOKENS = 224


class RegionText(NamedTuple):
    """The text of one speech region; seconds from the start of the file."""

    channel: int
    start_seconds: float
    end_seconds: float
    text: str


def offline_transcript(
    path: Path,
    model_path: Path = MODEL,
    *,
    language: str = "en",
    min_silence_seconds: float = 0.5,
    speech_pad_seconds: float = 0.4,
    max_speech_seconds: float = 24.0,
    padding_seconds: float = PADDING_SECONDS,
) -> list[RegionText]:
    """Return the text of every speech region of an audio file, ordered by (start, channel).

    Regions are faster-whisper's Silero regions of each channel alone, decoded greedily and without context, with
    ``padding_seconds`` of zeros after each. ``path`` is anything libsndfile reads.
    """
    import soundfile
    import soxr
    from faster_whisper.vad import get_speech_timestamps

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    regions = []
    for channel in range(samples.shape[1]):
        audio = soxr.resample(np.ascontiguousarray(samples[:, channel]), rate, RATE).astype(np.float32)
        spans = get_speech_timestamps(
            audio,
            min_silence_duration_ms=round(1000 * min_silence_seconds),
            speech_pad_ms=round(1000 * speech_pad_seconds),
            max_speech_duration_s=max_speech_seconds,
        )
        for span in spans:
            text = decode(
                audio[span["start"] : span["end"]], model_path, language=language, padding_seconds=padding_seconds
            )[0]
            regions.append(RegionText(channel, span["start"] / RATE, span["end"] / RATE, text))
    return sorted(regions, key=lambda region: (region.start_seconds, region.channel))


def decode(
    audio: npt.NDArray[np.float32],
    model_path: Path = MODEL,
    *,
    language: str = "en",
    padding_seconds: float = PADDING_SECONDS,
) -> tuple[str, float]:
    """Return the greedy text of ``audio`` (float32, shape (samples,), 16 kHz, < 30 s) and its mean log probability.

    The model is a multilingual one, whatever the size of its vocabulary: the demo model's card, which says so, is made of this.
    """
    import ctranslate2
    from faster_whisper.tokenizer import Tokenizer

    model = _model(str(model_path))
    tokenizer = Tokenizer(model.hf_tokenizer, True, task="transcribe", language=language)
    padded = np.concatenate([audio, np.zeros(round(padding_seconds * RATE), dtype=np.float32)])
    features = np.ascontiguousarray(model.feature_extractor(padded, padding=0)[None])
    result = model.model.generate(
        model.model.encode(ctranslate2.StorageView.from_array(features), to_cpu=False),
        [[*tokenizer.sot_sequence, tokenizer.no_timestamps]],
        beam_size=1,
        max_length=MAX_TOKENS,
        return_scores=True,
        suppress_blank=True,
        suppress_tokens=[],
    )[0]
    tokens = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
    return tokenizer.decode(tokens).strip(), float(result.scores[0])


def score(call: DemoCall, regions: Iterable[RegionText]) -> WordErrors:
    """Return the word errors of a transcript of a shipped call, each channel against its own reference."""
    ordered = sorted(regions, key=lambda region: region.start_seconds)
    total = WordErrors(errors=0, words=0)
    for channel in call.roles:
        heard = " ".join(region.text for region in ordered if region.channel == channel)
        total += word_error_rate(normalise(call.text(channel)), normalise(heard))
    return total


@lru_cache(maxsize=2)
def _model(folder: str) -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)


def main() -> None:
    """Print the word error rate of every shipped call and of all together."""
    parser = argparse.ArgumentParser(description="Offline word error rate of the shipped calls.")
    parser.add_argument("--model", type=Path, default=MODEL, help="folder of a multilingual CTranslate2 Whisper model")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    scores = {call.name: score(call, offline_transcript(call.path, options.model)) for call in calls()}
    scores["total"] = sum(scores.values(), WordErrors(errors=0, words=0))
    if options.json:
        rows = {name: {"words": row.words, "errors": row.errors, "rate": row.rate} for name, row in scores.items()}
        print(json.dumps(rows, indent=2))
        return
    print(f"{'call':<12} {'words':>6} {'errors':>6} {'rate':>7}")
    for name, row in scores.items():
        print(f"{name:<12} {row.words:>6} {row.errors:>6} {row.rate:>7.2%}")


if __name__ == "__main__":
    main()
