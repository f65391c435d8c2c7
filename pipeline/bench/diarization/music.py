"""Hold music for the shipped calls: chords and a beat, made of sines and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHORDS_HERTZ = ((262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294))  # C, A minor, F, G
BAR_SECONDS = 2.0
BEAT_SECONDS = 0.5
OVERTONES = 5
KICK_HERTZ = 90.0


def hold_music(seconds: float, rate_hz: int, *, level_dbfs: float, seed: int) -> NDArray[np.float32]:
    """Return music of an RMS level: float32 [samples], full scale 1, faded in and out."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    beat = time % BEAT_SECONDS
    off_beat = (time + BEAT_SECONDS / 2) % BEAT_SECONDS
    noise = np.random.RandomState(seed).standard_normal(len(time))
    played = np.choose(
        (time // BAR_SECONDS).astype(int) % len(CHORDS_HERTZ), [_chord(time, one) for one in CHORDS_HERTZ]
    )
    sound = played * (0.5 + 0.5 * np.exp(-2.0 * (time % BAR_SECONDS)))
    sound += 4.0 * np.sin(2 * np.pi * KICK_HERTZ * beat) * np.exp(-18.0 * beat)
    sound += 0.8 * noise * np.exp(-45.0 * off_beat)
    sound *= np.clip(np.minimum(time, time[::-1]) / 0.2, 0.0, 1.0)
    return np.asarray(sound * 10 ** (level_dbfs / 20) / np.sqrt(np.mean(np.square(sound))), dtype=np.float32)


def _chord(time: NDArray[np.float64], hertz: tuple[int, ...]) -> NDArray[np.float64]:
    waves = [np.sin(2 * np.pi * one * n * time) / n**1.5 for one in hertz for n in range(1, OVERTONES + 1)]
    return np.asarray(np.sum(waves, axis=0), dtype=np.float64)
