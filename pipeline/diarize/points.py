"""The voices of a lane as points, and how these are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.diarize.window import Floats

STATE_BYTES = 2_900  # for the points of a lane, half a byte per dimension
MOST_POINTS = 24
LEVELS = 7  # of four bits, on either side of zero


@dataclass(frozen=True, slots=True, eq=False)
class Voices:
    """The voices of a lane as points: unit vectors, float32 [points, dimensions], the seconds of speech behind each, and its label.

    Label n is speaker_n; ``next_label`` was given to nobody yet.
    """

    points: Floats = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    weights: tuple[float, ...] = ()
    labels: tuple[int, ...] = ()
    next_label: int = 1

    @property
    def speakers(self) -> tuple[int, ...]:
        """Return the labels in use, in order."""
        return tuple(sorted(set(self.labels)))

    def seconds(self, label: int) -> float:
        """Return how much speech is behind a speaker."""
        return sum(weight for weight, own in zip(self.weights, self.labels, strict=True) if own == label)

    def centroid(self, label: int) -> Floats:
        """Return the voice of a speaker: float32 [dimensions], of length one."""
        return self.mean([index for index, own in enumerate(self.labels) if own == label])

    def mean(self, members: Sequence[int]) -> Floats:
        """Return the voice of some points: float32 [dimensions], of length one."""
        weights = np.asarray([self.weights[index] for index in members], dtype=np.float32)
        return unit(weights @ self.points[list(members)])


def label_of(number: int) -> str:
    """Return the name of a label in turns."""
    return f"speaker_{number}"


def most_points(dimensions: int) -> int:
    """Return how many points the state of a lane has room for."""
    return max(2, min(MOST_POINTS, 2 * STATE_BYTES // max(dimensions, 1)))


def rounded(voices: Voices) -> Voices:
    """Return the voices as they come back from `to_bytes` and `from_bytes`."""
    return from_bytes(to_bytes(voices), voices.points.shape[1], voices.weights, voices.labels, voices.next_label)


def to_bytes(voices: Voices) -> bytes:
    """Return the points in four bits a dimension, the largest of each `LEVELS`, two dimensions a byte, one point after the other."""
    if not voices.weights:
        return b""
    scale = LEVELS / np.maximum(np.abs(voices.points).max(axis=1, keepdims=True), 1e-12)
    steps = (np.rint(voices.points * scale) + LEVELS + 1).astype(np.uint8)
    if steps.shape[1] % 2:
        steps = np.pad(steps, ((0, 0), (0, 1)))
    data: bytes = (steps[:, ::2] << 4 | steps[:, 1::2]).astype(np.uint8).tobytes()
    return data


def from_bytes(
    data: bytes, dimensions: int, weights: Sequence[float], labels: Sequence[int], next_label: int
) -> Voices:
    """Return the voices of `to_bytes`. Raises ValueError when the data are not so many points, or a label was given to nobody."""
    if not weights:
        return Voices(next_label=next_label)
    width = (dimensions + 1) // 2
    if not all(0 < label < next_label for label in labels):
        raise ValueError(f"labels {sorted({*labels})} are not between 1 and {next_label - 1}")
    if not width or len(data) != width * len(weights) or len(labels) != len(weights):
        raise ValueError(
            f"{len(data)} bytes and {len(labels)} labels are not {len(weights)} points of {dimensions} dimensions"
        )
    pairs = np.frombuffer(data, dtype=np.uint8).reshape(len(weights), width)
    steps = np.stack([pairs >> 4, pairs & 0xF], axis=2).reshape(len(weights), -1)[:, :dimensions]
    return Voices(unit(steps.astype(np.float32) - (LEVELS + 1)), tuple(weights), tuple(labels), next_label)


def unit(vectors: Floats) -> Floats:
    """Return vectors, float32 [..., dimensions], at length one; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
