"""What the models say of one window, as arrays: work for an engine, its result, and what that makes of the local speakers.

Time within a window is counted in frames of 20 ms, whatever the frames of the segmentation model are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
FRAME = 320  # samples
FRAMES_PER_SECOND = RATE // FRAME

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiarizeWork:
    """A window to be heard: int16 samples at 16 kHz, whole frames, that end at ``position``. ``is_final``: the utterance ends there.

    Who speaks below ``decided_to`` is decided, so nobody asks whose voices those are.
    """

    audio: NDArray[np.int16]
    position: int
    is_final: bool = False
    decided_to: int = 0

    @property
    def open_frames(self) -> int:
        """Return how many frames at the end of the window are not decided."""
        return min(len(self.audio), max(0, self.position - self.decided_to)) // FRAME


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heard:
    """What is said in a window: ``scores`` float32 [frames, runs], the probability that a local speaker speaks, of each stretch alone;
    ``owners`` says which local speaker that is; ``embeddings`` float32 [runs, dimensions], not finite where there was too little speech.
    """

    scores: Floats
    embeddings: Floats
    owners: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The models could not hear a window. ``reason`` is the type of the error, never its text."""

    reason: str


def active_of(scores: Floats, threshold: float) -> Flags:
    """Return who speaks when: bool [frames, speakers]."""
    return scores >= threshold


def clean_of(active: Flags, least_seconds: float) -> tuple[Flags, tuple[bool, ...]]:
    """Return the frames that tell the voice of each local speaker, those in which nobody else speaks, and True for each.

    Where these are fewer than ``least_seconds``, all frames in which the speaker speaks, and False.
    """
    alone = active & (active.sum(axis=1, keepdims=True) == 1)
    enough = alone.sum(axis=0) >= least_seconds * FRAMES_PER_SECOND
    return np.where(enough[None, :], alone, active), tuple(enough.tolist())


def runs_of(active: Flags, *, start: int, bridge: int, longest: int) -> tuple[Flags, tuple[int, ...]]:
    """Return the stretches in which one local speaker speaks, holes up to ``bridge`` frames within: bool [frames, runs], and whose.

    They are cut at multiples of ``longest`` frames since the start of the call (``start`` is the frame at which the window begins), so
    that windows cut alike: a segmentation model may take two persons for one, who can still be told apart by their voices then.
    """
    columns: list[Flags] = []
    owners: list[int] = []
    for speaker in range(active.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], active[:, speaker], [False]]).astype(np.int8)))
        starts, ends = edges[::2], edges[1::2]
        if not len(starts):
            continue
        is_new = np.concatenate([[True], starts[1:] - ends[:-1] > bridge])
        number = np.cumsum(is_new) - 1
        for run in range(int(number[-1]) + 1):
            first, last = int(starts[number == run][0]), int(ends[number == run][-1])
            grid = range(-start % longest, len(active), longest)
            inner = [at for at in grid if first + longest // 2 <= at <= last - longest // 2]
            for begin, end in pairwise([first, *inner, last]):
                column = np.zeros(len(active), dtype=np.bool_)
                column[begin:end] = active[begin:end, speaker]
                columns.append(column)
                owners.append(speaker)
    found: Flags = np.stack(columns, axis=1) if columns else np.zeros((len(active), 0), dtype=np.bool_)
    return found, tuple(owners)


def resampled(scores: Floats, frames: int) -> Floats:
    """Return scores of evenly spaced frames over the same window at another number of frames, linearly interpolated."""
    count = len(scores)
    if count == frames:
        return scores.astype(np.float32)
    at = (np.arange(frames) + 0.5) * count / frames - 0.5
    columns = [np.interp(at, np.arange(count), column) for column in scores.T]
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((frames, 0), np.float32)
