"""8 kHz to 16 kHz on absolute sample positions, without stream state.

Every output sample depends on a fixed number of input samples around it and on nothing else, and the arithmetic is
exact in integers. So cutting the audio differently, or starting again in the middle, gives the same 16 kHz samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TAPS_BEHIND = 15
TAPS_AHEAD = 16


def _half_band() -> NDArray[np.int64]:
    """Return the Q15 coefficients of the half-sample delay: a Kaiser-windowed sinc (Oppenheim and Schafer, section 7.5)."""
    positions = np.arange(-TAPS_BEHIND, TAPS_AHEAD + 1) - 0.5
    ideal = np.sinc(positions) * np.kaiser(len(positions), 7.0)
    coefficients: NDArray[np.int64] = np.round(ideal / ideal.sum() * 32768).astype(np.int64)
    coefficients[TAPS_BEHIND] += 32768 - coefficients.sum()
    return coefficients


_COEFFICIENTS = _half_band()


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
    between = np.convolve(samples.astype(np.int64), _COEFFICIENTS[::-1], mode="valid")
    out[1::2] = np.clip((between + 16384) >> 15, -32768, 32767)
    return out
