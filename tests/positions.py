"""Audio that knows where it is: speech whose samples say position, channel and rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]


def speech_samples(*, start: int, count: int, channel: int, rate: int) -> Samples:
    """Return ``count`` loud samples from position ``start``: low and high digits of the position, then channel and rate."""
    position = np.arange(start, start + count, dtype=np.int64)
    block = position >> 2
    values = np.choose(
        position & 3,
        [
            0x4000 | (block & 0x1FFF),
            0x2000 | ((block >> 13) & 0x1FFF),
            np.full(count, 0x1000 | channel << 4 | 16_000 // rate),
            np.full(count, 0x0800),
        ],
    )
    return values.astype(np.int16)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window lies: 16 kHz position of its first sample."""

    channel: int
    start: int


def place_of(audio: Samples) -> Place | None:
    """Return where ``audio`` (16 kHz) lies; None when it holds no speech."""
    for ratio in (2, 1):
        exact = audio[::ratio].astype(np.int64)
        if len(exact) < 7:
            continue
        is_low = exact[:-6] & 0x7000 >= 0x4000
        is_next = (exact[1:-5] & 0x6000) == 0x2000
        is_tag = (exact[2:-4] & 0x1000 != 0) & (exact[2:-4] < 0x2000) & (exact[2:-4] & 0xF == ratio)
        for index in np.flatnonzero(is_low & is_next & is_tag & (exact[3:-3] == 0x0800)):
            block = int(exact[index] & 0x1FFF) | int(exact[index + 1] & 0x1FFF) << 13
            if exact[index + 4] & 0x4000 and int(exact[index + 4] & 0x1FFF) == (block + 1) & 0x1FFF:
                return Place(int(exact[index + 2] >> 4 & 0xFF), ((block << 2) - int(index)) * ratio)
    return None
