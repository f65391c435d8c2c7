"""What becomes of a window on its way: the room, noise, hum, tones, a level, a telephone line, gaps.

Every number is drawn from the ``numpy.random.Generator`` that is passed in; the shares and ranges are the model's training data. Samples
are at 16 kHz.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from pipeline.core.g711 import decode, encode
from pipeline.core.resample import TAPS_AHEAD, TAPS_BEHIND, double_rate
from pipeline.diarize.window import FRAME, FRAMES_PER_SECOND, RATE, Floats

WINDOW_SECONDS = 5.0  # the default of diarize.window_seconds
WINDOW_SAMPLES, WINDOW_FRAMES = round(WINDOW_SECONDS * RATE), round(WINDOW_SECONDS * FRAMES_PER_SECOND)

ROOM_SHARE = 0.35  # noise that fades stands for the reflections of an office or a car
ROOM_SECONDS, FADING_SECONDS, ROOM_LEVEL = (0.05, 0.25), (0.02, 0.08), (0.05, 0.25)
NOISE_SHARE, NOISE_DB = 0.75, (18.0, 55.0)  # below an RMS of 0.1: -38 to -75 dBFS, quiet offices to bad lines
COLOURED_SHARE, COLOUR = 0.5, (1.0, 0.9, 0.8, 0.6, 0.4)  # of the noise: duller than white
HUM_SHARE, HUM_HERTZ, HUM_LEVEL = 0.05, (50, 60, 100, 120), (0.001, 0.01)  # of the mains and its first harmonic
TONES_SHARE, TONES = 0.5, (1, 5)  # of windows without speech: signalling is nobody's voice
TONE_HERTZ, TONE_LEVEL, TONE_SWITCHING_HERTZ, TONE_DUTY = (200, 900), (0.01, 0.08), (0.2, 3.0), (-1.0, 0.5)
MUSIC_SHARE, NOTES, NOTE_SECONDS, NOTE_HERTZ = (
    0.3,
    (2, 5),
    (0.12, 0.6),
    (110, 880),
)  # of windows without speech: waiting on hold
BURST_SHARE, BURSTS, BURST_SECONDS, BURST_DB = (
    0.3,
    (1, 7),
    (0.01, 0.4),
    (8.0, 40.0),
)  # breath, clicks, rustling, below an RMS of 0.1
LEVEL_DB, LOUD_SHARE, LOUD_DB = (-14.0, 8.0), 0.05, (10.0, 18.0)  # the loud ones are clipped
TELEPHONE_SHARE, MU_LAW_SHARE = 0.65, 0.6  # most calls; by the product's own G.711 and its own way from 8 to 16 kHz
GAP_SHARE, GAP_LENGTH, GAP_START_SHARE = (
    0.15,
    (0.0, 0.5),
    0.5,
)  # zeros at the start: what a lane has before its first audio


def on_a_line(samples: Floats, source: np.random.Generator, *, is_empty: bool = False) -> tuple[NDArray[np.int16], int]:
    """Return a window, int16, as it is heard, and how many of its first frames are zeros. ``is_empty``: nobody speaks in it."""
    samples = samples.copy()
    if source.random() < ROOM_SHARE:
        samples = reverberated(samples, source)
    if source.random() < NOISE_SHARE:
        samples = samples + _noise(len(samples), source)
    times = np.arange(len(samples))
    if source.random() < HUM_SHARE:
        hum = np.sin(2 * np.pi * source.choice(HUM_HERTZ) * times / RATE).astype(np.float32)
        samples = samples + hum * source.uniform(*HUM_LEVEL)
    if source.random() < BURST_SHARE:
        for _ in range(source.integers(*BURSTS)):
            _burst(samples, source)
    if is_empty and source.random() < MUSIC_SHARE:
        samples = samples + _music(len(samples), source)
    elif is_empty and source.random() < TONES_SHARE:
        for _ in range(source.integers(*TONES)):
            samples = samples + _tone(times / RATE, source)
    level = source.uniform(*(LOUD_DB if source.random() < LOUD_SHARE else LEVEL_DB))
    samples = np.clip(samples * 10 ** (level / 20), -1, 1)
    heard = _int16(samples)
    if source.random() < TELEPHONE_SHARE:
        heard = telephone(samples, source)
    return _with_gap(heard, source)


def reverberated(samples: Floats, source: np.random.Generator) -> Floats:
    """Return samples as they sound in a room."""
    count = len(samples)
    response = source.normal(0, 1, int(RATE * source.uniform(*ROOM_SECONDS))).astype(np.float32)
    response *= np.exp(-np.arange(len(response)) / (RATE * source.uniform(*FADING_SECONDS)))
    response = response * source.uniform(*ROOM_LEVEL) / (float(np.sqrt((response**2).sum())) + 1e-9)
    response[0] = 1
    length = 1 << int(np.ceil(np.log2(count + len(response))))
    spectrum = np.fft.rfft(samples, length) * np.fft.rfft(response, length)
    return np.fft.irfft(spectrum, length)[:count].astype(np.float32)


def telephone(samples: Floats, source: np.random.Generator) -> NDArray[np.int16]:
    """Return samples after 8 kHz, some of them after mu-law."""
    narrow = _int16(np.clip(soxr.resample(samples, RATE, RATE // 2, quality="LQ"), -1, 1))
    if source.random() < MU_LAW_SHARE:
        narrow = decode(encode(narrow, "mulaw"), "mulaw")
    return double_rate(np.pad(narrow, (TAPS_BEHIND, TAPS_AHEAD)))[: len(samples)]


def _noise(count: int, source: np.random.Generator) -> Floats:
    noise = source.normal(0, 1, count).astype(np.float32)
    if source.random() < COLOURED_SHARE:
        noise = np.convolve(noise, COLOUR, "same").astype(np.float32) / 2
    return np.asarray(noise * 10 ** (-source.uniform(*NOISE_DB) / 20) * 0.1, dtype=np.float32)


def _tone(seconds: NDArray[np.float64], source: np.random.Generator) -> Floats:
    tone = np.sin(2 * np.pi * source.uniform(*TONE_HERTZ) * seconds) * source.uniform(*TONE_LEVEL)
    switching = np.sin(2 * np.pi * source.uniform(*TONE_SWITCHING_HERTZ) * seconds)
    return np.asarray(tone * (switching > source.uniform(*TONE_DUTY)), dtype=np.float32)


def _with_gap(heard: NDArray[np.int16], source: np.random.Generator) -> tuple[NDArray[np.int16], int]:
    if source.random() < GAP_SHARE:
        frames = int(source.uniform(*GAP_LENGTH) * WINDOW_FRAMES)
        if source.random() < GAP_START_SHARE:
            heard = heard.copy()
            heard[: frames * FRAME] = 0
            return heard, frames
    return heard, 0


def _int16(samples: NDArray[Any]) -> NDArray[np.int16]:
    return (samples * 32767).astype(np.int16)


def _burst(samples: Floats, source: np.random.Generator) -> None:
    """Add a burst of noise that rises and fades, of any colour, in place."""
    count = int(RATE * source.uniform(*BURST_SECONDS)) // 64 * 64 + 64  # a length that Fourier transforms are fast at
    noise = source.normal(0, 1, count)
    spectrum = np.fft.rfft(noise)
    gains = np.interp(np.linspace(0, 5, len(spectrum)), np.arange(6), source.uniform(-30, 0, 6))
    rise = source.uniform(0.02, 0.6)
    place = np.linspace(0, 1, count)
    shape = np.minimum(place / rise, (1 - place) / (1 - rise))
    noise = np.fft.irfft(spectrum * 10 ** (gains / 20), count) * shape
    noise *= 0.1 * 10 ** (-source.uniform(*BURST_DB) / 20) / (np.sqrt((noise**2).mean()) + 1e-9)
    first = int(source.integers(0, max(1, len(samples) - count)))
    samples[first : first + count] += noise[: len(samples) - first].astype(np.float32)


def _music(count: int, source: np.random.Generator) -> Floats:
    """Return chords of notes with harmonics, one after the other."""
    samples = np.zeros(count)
    harmonics = source.uniform(0, 1, 6) ** 2
    beat = int(RATE * source.uniform(*NOTE_SECONDS))
    low, high = NOTE_HERTZ
    for first in range(0, count, beat):
        length = min(count - first, int(beat * source.uniform(0.8, 2.0)))
        seconds = np.arange(length) / RATE
        fade = np.exp(-seconds * source.uniform(1, 6)) * np.minimum(1, seconds * 100)
        for _ in range(source.integers(*NOTES)):
            pitch = low * 2 ** (source.integers(0, int(12 * np.log2(high / low))) / 12)
            for number, gain in enumerate(harmonics, start=1):
                samples[first : first + length] += gain / number * fade * np.sin(2 * np.pi * pitch * number * seconds)
    level = np.sqrt((samples**2).mean()) + 1e-9
    return np.asarray(samples * (source.uniform(0.01, 0.1) / level), dtype=np.float32)
