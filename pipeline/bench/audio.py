"""A whole recording as samples the model takes: every channel alone, 16 kHz, the way the pipeline itself converts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import g711
from pipeline.core.resample import TAPS_AHEAD, TAPS_BEHIND, double_rate
from pipeline.ingest.decode import open_audio

RATE = 16_000


def channels_of(path: Path) -> tuple[NDArray[np.int16], ...]:
    """Return the channels of an audio file, int16 [samples] each, at 16 kHz. Raises InputError."""
    with open_audio(path) as source:
        blocks = list(source.blocks())
        encoding, rate = source.encoding, source.sample_rate_hz
    return tuple(_linear(b"".join(pieces), encoding, rate) for pieces in zip(*blocks, strict=True))


def _linear(data: bytes, encoding: str, rate: int) -> NDArray[np.int16]:
    if encoding == "mulaw":
        samples = g711.decode(data, "mulaw")
    elif encoding == "alaw":
        samples = g711.decode(data, "alaw")
    else:
        samples = np.frombuffer(data, dtype="<i2").astype(np.int16)
    if rate == RATE:
        return samples
    return double_rate(np.pad(samples, (TAPS_BEHIND, TAPS_AHEAD)))
