"""Recordings for tests, written by libsndfile or FFmpeg, so that reading them is checked against another program."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from pipeline.ingest.decode import AudioSource


def speechlike(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> NDArray[np.float64]:
    """Return tones with noise, [frames, channels], full scale 1; every channel differs."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(scale=0.02, size=(len(time), channels))
    tones = [0.4 * np.sin(2 * np.pi * (150 + 70 * channel) * time) for channel in range(channels)]
    return np.stack(tones, axis=1) + noise


def write(path: Path, samples: NDArray[np.float64], rate: int, subtype: str | None = None) -> Path:
    """Write samples with libsndfile; the container follows the extension."""
    container = "OGG" if path.suffix == ".opus" else None
    soundfile.write(path, samples, rate, subtype=subtype, format=container)
    return path


def encode(path: Path, samples: NDArray[np.float64], rate: int, *, codec: str, container: str | None = None) -> Path:
    """Write samples with FFmpeg."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono" if samples.shape[1] == 1 else "stereo")
        wanted = stream.codec_context.format.name
        resampler = av.AudioResampler(format=wanted, layout=stream.layout, rate=rate, frame_size=1024)
        pcm = np.ascontiguousarray((samples * 32767).astype(np.int16)).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return path


def read_all(source: AudioSource) -> list[bytes]:
    """Return every channel's bytes and close the source."""
    parts: list[list[bytes]] = [[] for _ in range(source.channels)]
    with source:
        for blocks in source.blocks():
            assert len({len(block) for block in blocks}) == 1
            for part, block in zip(parts, blocks, strict=True):
                part.append(block)
    return [b"".join(part) for part in parts]


def pcm(data: bytes) -> NDArray[np.int16]:
    """Return the samples of pcm_s16le bytes."""
    return np.frombuffer(data, dtype="<i2")


class Pipe:
    """A stream that gives at most ``step`` bytes at a time and cannot be rewound."""

    def __init__(self, data: bytes, step: int = 1000) -> None:
        self._data = data
        self._step = step
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        size = self._step if size < 0 else min(size, self._step)
        part = self._data[self._position : self._position + size]
        self._position += len(part)
        return part
