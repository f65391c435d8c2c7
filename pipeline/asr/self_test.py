"""The test a model passes before the worker is ready: a recording of known text, or at least finite scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.asr.engine import LOWEST_PROBABILITY
from pipeline.asr.hypothesis import AsrWork
from pipeline.asr.loading import ModelFiles
from pipeline.asr.pool import LoadedModel
from pipeline.asr.profiles import ModelProfile
from pipeline.core.errors import NotReadyError
from pipeline.core.text import joined
from pipeline.demo.assets import MODEL as DEMO_MODEL

Mode = Literal["strict", "basic", "off"]

RATE = 16_000
LONGEST_SECONDS = 28.0
SHIPPED_RECORDING = DEMO_MODEL / "self_test.flac"  # for models without one: speech, so that there are scores to look at
LOWEST_SCORE = math.log(LOWEST_PROBABILITY)  # what CTranslate2's softmax makes of numbers that are none
SHOWN_CHARACTERS = 200


def check_model(model: LoadedModel, profile: ModelProfile, files: ModelFiles, mode: Mode) -> str:
    """Test a loaded model; return what was compared: ``text``, ``scores`` or ``nothing``.

    ``basic`` compares with the text in the model's card, and without one checks that decoding runs with finite scores.
    ``strict`` insists on a text in the card. Raises NotReadyError when the model does not pass.
    """
    if mode == "off":
        return "nothing"
    expected = files.card.get("self_test")
    if expected is None and mode == "strict":
        raise _failed(profile, f"asr.self_test is strict, and {files.folder} has no card.json with a self_test")
    recording = SHIPPED_RECORDING if expected is None else files.folder / expected["audio"]
    language = expected.get("language") if expected else None
    work = AsrWork(
        audio=_samples(profile, recording),
        prefix=(),
        prompt_tokens=(),
        prompt=None,
        hot_words=(),
        language=language or _any_language(profile),
        is_final=True,
        model=profile.name,
    )
    hypothesis = model.infer([work])[0]
    scores = [value for word in hypothesis.words for value in word.log_probabilities]
    if not all(map(math.isfinite, (hypothesis.no_speech_probability, *scores))) or (
        scores and max(scores) <= LOWEST_SCORE
    ):
        raise _failed(profile, "its scores are not finite numbers")
    if expected is None:
        return "scores"
    text = joined(hypothesis.words)
    if text != expected["text"]:
        heard, stated = text[:SHOWN_CHARACTERS], expected["text"][:SHOWN_CHARACTERS]
        raise _failed(profile, f"for {recording} it writes {heard!r}, and its card says {stated!r}")
    return "text"


def _samples(profile: ModelProfile, recording: Path) -> NDArray[np.int16]:
    """Return a recording as int16 [samples] at 16 kHz."""
    import soundfile

    try:
        samples, rate = soundfile.read(recording, dtype="int16", always_2d=True)
    except (OSError, soundfile.LibsndfileError):
        raise _failed(profile, f"the recording {recording} cannot be read") from None
    if rate != RATE or samples.shape[1] != 1 or not 0 < len(samples) <= LONGEST_SECONDS * RATE:
        raise _failed(
            profile, f"the recording {recording} is not mono, {RATE} Hz, and at most {LONGEST_SECONDS:g} s long"
        )
    return np.ascontiguousarray(samples[:, 0])


def _any_language(profile: ModelProfile) -> str:
    return "en" if not profile.languages or "en" in profile.languages else profile.languages[0]


def _failed(profile: ModelProfile, reason: str) -> NotReadyError:
    return NotReadyError(f"self-test of model {profile.name!r}: {reason}")
