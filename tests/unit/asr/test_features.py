from __future__ import annotations

import numpy as np
import pytest
import soundfile
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from pipeline.asr.features import LogMel
from pipeline.demo.assets import MODEL


def theirs(audio: NDArray[np.int16], length: int, bins: int) -> NDArray[np.float32]:
    waveform = np.zeros(length, dtype=np.float32)
    waveform[: len(audio)] = audio.astype(np.float32) / 32768
    found: NDArray[np.float32] = FeatureExtractor(feature_size=bins)(waveform, padding=0)
    return found


def speech() -> NDArray[np.int16]:
    audio, _ = soundfile.read(MODEL / "self_test.flac", dtype="int16")
    return np.asarray(audio)


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("samples", [1, 159, 160, 199, 399, 400, 1_000, 8_123, 28_800])
@pytest.mark.parametrize("padding", [0, 1, 160, 200, 201, 8_000])
def test_features_are_those_of_faster_whisper(bins: int, samples: int, padding: int) -> None:
    audio = speech()[4_000 : 4_000 + samples]
    length = max(samples + padding, 400)
    found = LogMel(bins)(audio, length)
    np.testing.assert_allclose(found, theirs(audio, length, bins), atol=2e-5)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous


@pytest.mark.parametrize("audio", [np.zeros(5_000, np.int16), np.full(5_000, -32768, np.int16)])
def test_silence_and_the_loudest_sample_are_no_exception(audio: NDArray[np.int16]) -> None:
    np.testing.assert_allclose(LogMel(80)(audio, 13_000), theirs(audio, 13_000, 80), atol=2e-5)


def test_noise_of_any_length_is_no_exception() -> None:
    source = np.random.default_rng(1)
    for length in source.integers(400, 40_000, 30):
        audio = source.integers(-9_000, 9_000, source.integers(1, length + 1)).astype(np.int16)
        np.testing.assert_allclose(LogMel(80)(audio, int(length)), theirs(audio, int(length), 80), atol=2e-5)
