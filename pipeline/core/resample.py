"""8 kHz to 16 kHz on absolute sample positions, without stream state.

Every output sample depends on a fixed number of input samples around it and on nothing else, and the arithmetic is
exact in integers. So cutting the audio differently, or starting again in the middle, gives the same 16 kHz samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.core.frames import frames

TAPS_BEHIND = 15
TAPS_AHEAD = 16
BLOCK = 32


def _half_band() -> NDArray[np.int64]:
    """Return the Q15 coefficients of the half-sample delay: a Kaiser-windowed sinc (Oppenheim and Schafer, section 7.5)."""
    positions = np.arange(-TAPS_BEHIND, TAPS_AHEAD + 1) - 0.5
    ideal = np.sinc(positions) * np.kaiser(len(positions), 7.0)
    coefficients: NDArray[np.int64] = np.round(ideal / ideal.sum() * 32768).astype(np.int64)
    coefficients[TAPS_BEHIND] += 32768 - coefficients.sum()
    return coefficients


_COEFFICIENTS = _half_band()


def _matrix() -> NDArray[np.float64]:
    """Return the filter for `BLOCK` outputs at once: [BLOCK + taps - 1 inputs, BLOCK outputs]."""
    matrix = np.zeros((BLOCK + len(_COEFFICIENTS) - 1, BLOCK))
    for output in range(BLOCK):
        matrix[output : output + len(_COEFFICIENTS), output] = _COEFFICIENTS
    return matrix


_MATRIX = _matrix()  # in float64 every sum is an exact integer, in any order


def double_rate(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the input at twice its rate.

    ``samples`` int16 [15 + n + 16]: the n samples to convert with their neighbours. Returns int16 [2 n]; even outputs
    are the inputs themselves, odd ones lie half-way.

    >>> double_rate(np.full(15 + 2 + 16, 1000, dtype=np.int16)).tolist()
    [1000, 1000, 1000, 1000]
    """
    count = len(samples) - TAPS_BEHIND - TAPS_AHEAD
    if count <= 0:
        return np.zeros(0, dtype=np.int16)
    out = np.empty(2 * count, dtype=np.int16)
    out[0::2] = samples[TAPS_BEHIND : TAPS_BEHIND + count]
    blocks, inputs = -(-count // BLOCK), _MATRIX.shape[0]
    padded = np.zeros(blocks * BLOCK + TAPS_BEHIND + TAPS_AHEAD)
    padded[: len(samples)] = samples
    overlapping = np.ascontiguousarray(frames(padded, count=blocks, size=inputs, step=BLOCK))
    between = (overlapping @ _MATRIX).ravel()[:count]
    between = np.floor(between * (1 / 32768) + 0.5)
    out[1::2] = np.clip(between, -32768, 32767)
    return out
