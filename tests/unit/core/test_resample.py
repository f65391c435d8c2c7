from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soxr

from pipeline.core.resample import TAPS_AHEAD, TAPS_BEHIND, double_rate


def padded(samples: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(TAPS_BEHIND, np.int16), samples, np.zeros(TAPS_AHEAD, np.int16)])


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-20_000, 20_000, count).astype(np.int16)


def test_even_samples_are_the_input() -> None:
    samples = noise(1_000)
    assert np.array_equal(double_rate(padded(samples))[::2], samples)


@pytest.mark.parametrize("cuts", [[1], [1, 2, 3], [500], [17, 31, 32, 64, 999]])
def test_cutting_changes_nothing(cuts: list[int]) -> None:
    samples = padded(noise(1_000))
    whole = double_rate(samples)
    edges = [0, *cuts, 1_000]
    parts = [double_rate(samples[start : end + TAPS_BEHIND + TAPS_AHEAD]) for start, end in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("count", [0, 1, TAPS_BEHIND + TAPS_AHEAD])
def test_neighbours_alone_give_nothing(count: int) -> None:
    assert len(double_rate(np.ones(count, np.int16))) == 0


@pytest.mark.parametrize("level", [-32_768, -1, 0, 1, 32_767])
def test_a_constant_stays_a_constant(level: int) -> None:
    assert set(double_rate(np.full(100, level, np.int16)).tolist()) == {level}


def test_full_scale_is_clipped_not_wrapped() -> None:
    square = np.where(np.arange(200) // 10 % 2, 32_767, -32_768).astype(np.int16)
    out = double_rate(square).astype(int)
    assert np.abs(np.diff(out[::2])).max() <= 65_535
    assert (np.sign(out[1::2][2:8]) == np.sign(out[0::2][2:8])).all()


@pytest.mark.parametrize("frequency", [200, 1_000, 2_500, 3_200])
def test_a_tone_is_the_tone_soxr_makes(frequency: int) -> None:
    time = np.arange(8_000) / 8_000
    tone = (10_000 * np.sin(2 * np.pi * frequency * time)).astype(np.int16)
    ours = double_rate(padded(tone)).astype(float)
    theirs = soxr.resample(tone, 8_000, 16_000, quality="VHQ").astype(float)
    middle = slice(2_000, -2_000)
    assert np.sqrt(np.mean((ours[middle] - theirs[middle]) ** 2)) < 10_000 * 0.01
