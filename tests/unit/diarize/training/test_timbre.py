"""Formants move, pitch and length stay."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.diarize.training.timbre import SIZE, with_formants
from pipeline.diarize.window import RATE, Floats

PITCH = 125.0  # a multiple of a bin


@pytest.fixture(scope="module")
def vowel() -> Floats:
    """Return a second of harmonics under one formant at 1 kHz."""
    seconds = np.arange(RATE) / RATE
    orders = np.arange(1, 50)
    gains = 1 / (1 + ((orders * PITCH - 1000) / 150) ** 2)
    return np.asarray(
        (gains[:, None] * np.sin(2 * np.pi * orders[:, None] * PITCH * seconds)).sum(axis=0) * 0.05, np.float32
    )


def spectrum(samples: Floats) -> np.ndarray:
    return np.abs(np.fft.rfft(samples * np.hanning(len(samples))))


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_formant_moves_and_pitch_stays(vowel: Floats, factor: float) -> None:
    moved = with_formants(vowel, factor)
    assert moved.shape == vowel.shape
    assert moved.dtype == np.float32
    found = spectrum(moved)
    harmonics = found[(np.arange(1, 30) * PITCH).astype(int)]  # bins are 1 Hz apart
    between = found[((np.arange(1, 30) + 0.5) * PITCH).astype(int)]
    assert between.max() < 0.05 * harmonics.max()
    centre = (np.arange(1, 30) * PITCH * harmonics**2).sum() / (harmonics**2).sum()
    assert (centre > 1030) if factor > 1 else (centre < 970)


def test_factor_one_changes_nothing(vowel: Floats) -> None:
    assert np.abs(with_formants(vowel, 1.0) - vowel)[SIZE:-SIZE].max() < 1e-4


def test_what_is_too_short_is_left_alone(vowel: Floats) -> None:
    assert np.array_equal(with_formants(vowel[:100], 1.2), vowel[:100])
