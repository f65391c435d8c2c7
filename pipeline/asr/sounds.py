"""What samples alone say about a stretch of audio: silence, steady tones, noise. Int16 at 16 kHz."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.asr.hypothesis import FRAME

BLOCK = 512  # 32 ms
FEWEST_BLOCKS = 20  # shorter stretches are not judged
AUDIBLE_RMS = 30.0
WINDOW = np.hanning(BLOCK).astype(np.float32)
LOW = slice(0, 600 * BLOCK // 16_000)
BAND = slice(300 * BLOCK // 16_000, 3_300 * BLOCK // 16_000)
# Chosen between what speech reaches at most on the shipped calls (in brackets) and what the sounds themselves give.
STRONGEST_BINS = 8
TONE_POWER, TONE_BLOCKS = 0.98, 0.9  # of a block in its strongest bins (0.79 of the blocks)
KEY_POWER, KEY_LOW, KEY_BLOCKS = 0.9, 0.02, 0.4  # and next to nothing below 600 Hz: keypad tones (0.03)
NOISE_FLATNESS, NOISE_BLOCKS = 0.5, 0.9  # geometric over arithmetic mean of 8 blocks' power, 300 to 3300 Hz (0.74)


def loudness(audio: NDArray[np.int16]) -> NDArray[Any]:
    """Return the root mean square of every encoder frame of 20 ms; float32 [frames]."""
    count = len(audio) // FRAME
    frames = audio[: count * FRAME].reshape(count, FRAME).astype(np.float32)
    return np.asarray(np.sqrt(np.mean(frames * frames, axis=1)))


def no_speech_in(audio: NDArray[np.int16]) -> Literal["tone", "noise"] | None:
    """Return what fills a stretch of audio that holds no speech, None when it may hold some.

    ``tone``: the audible blocks have nearly all their power in a few bins (tones, keypad tones, chords). ``noise``: the spectrum of
    the telephone band is flat nearly all the time (white noise, static).
    """
    count = len(audio) // BLOCK
    blocks = audio[: count * BLOCK].reshape(count, BLOCK).astype(np.float32)
    blocks = blocks[np.sqrt(np.mean(blocks * blocks, axis=1)) > AUDIBLE_RMS]
    if len(blocks) < FEWEST_BLOCKS:
        return None
    spectrum = np.fft.rfft(blocks * WINDOW, axis=1)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32)
    total = power.sum(axis=1)
    strongest = np.partition(power, -STRONGEST_BINS, axis=1)[:, -STRONGEST_BINS:].sum(axis=1) / total
    is_key = (strongest > KEY_POWER) & (power[:, LOW].sum(axis=1) < KEY_LOW * total)
    if np.mean(strongest > TONE_POWER) > TONE_BLOCKS or np.mean(is_key) > KEY_BLOCKS:
        return "tone"
    sums = np.cumsum(power[:, BAND], axis=0)
    smooth = sums[8:] - sums[:-8] + 1e-6
    flatness = np.exp(np.mean(np.log(smooth), axis=1)) / np.mean(smooth, axis=1)
    return "noise" if np.mean(flatness > NOISE_FLATNESS) > NOISE_BLOCKS else None
