"""A voice with another vocal tract: formants move, pitch and tempo stay.

The envelope of a short-time spectrum, smoothed through the cepstrum (A. V. Oppenheim, R. W. Schafer, "Homomorphic analysis of speech",
1968), is stretched along the frequencies. Together with playing faster or slower, which moves both, pitch and formants vary apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.diarize.window import Floats

SIZE, HOP = 512, 256  # samples at 16 kHz
CEPSTRUM = 40  # coefficients of the envelope: below the pitch period of voices up to 400 Hz
LARGEST_GAIN = 4.0  # 12 dB
FAINT = 1e-4


def with_formants(samples: Floats, factor: float) -> Floats:
    """Return samples, float32 [samples] at 16 kHz, with formants at ``factor`` times their frequencies, and the same length."""
    count = len(samples)
    if count < SIZE:
        return samples
    frames = -(-(count - SIZE) // HOP) + 1
    padded = np.zeros((frames - 1) * HOP + SIZE, dtype=np.float32)
    padded[:count] = samples
    window = np.hanning(SIZE + 1)[:SIZE].astype(np.float32)
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP] * window, axis=1)
    envelopes = _envelopes(np.log(np.abs(spectra) + FAINT))
    bins = np.arange(envelopes.shape[1])
    at = np.minimum(bins / factor, bins[-1])
    below = np.minimum(at.astype(np.int64), bins[-1] - 1)
    share = at - below
    moved = envelopes[:, below] * (1 - share) + envelopes[:, below + 1] * share
    gains = np.clip(np.exp(moved - envelopes), 1 / LARGEST_GAIN, LARGEST_GAIN)
    parts = np.fft.irfft(spectra * gains, SIZE, axis=1).astype(np.float32) * window
    summed, weights = np.zeros_like(padded), np.zeros_like(padded)
    steps = SIZE // HOP
    for step in range(steps):  # frames that do not overlap are added at once
        part = parts[step::steps].reshape(-1)
        summed[step * HOP : step * HOP + len(part)] += part
        weights[step * HOP : step * HOP + len(part)] += np.tile(window**2, len(part) // SIZE)
    return np.asarray((summed / np.maximum(weights, 0.1))[:count], dtype=np.float32)


def _envelopes(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return smooth versions of log spectra, [frames, bins]."""
    cepstra = np.fft.irfft(logarithms, SIZE, axis=1)
    cepstra[:, CEPSTRUM : SIZE - CEPSTRUM + 1] = 0
    return np.asarray(np.fft.rfft(cepstra, axis=1).real)
