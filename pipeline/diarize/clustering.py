"""Online clustering of voices, on arrays: which local speaker of a window is which speaker of the call.

After J. M. Coria, H. Bredin, S. Ghannay, S. Rosset, "Overlap-aware low-latency online speaker diarization based on end-to-end
local segmentation" (ASRU 2021), the algorithm of diart: each speaker of the call is a centroid, the local speakers of a window are
assigned to centroids, what is far from all of them becomes a new speaker. Where this differs:

- The distance that still counts as the same voice shrinks with the speech behind both sides: an embedding of one second is three
  times as far from its speaker as one of four, so a single threshold either merges voices or makes new ones of every short answer.
- Local speakers that do not speak at the same time may be one person; those that do may not.
- Centroids are running means of unit vectors with a bounded weight, kept as 8-bit integers between utterances: small, and a worker
  that takes over a call goes on with the same numbers.

Distances are cosine distances, 0 to 2. Lengths are seconds of speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

SHARED_SHARE = 0.2  # of the shorter one: local speakers that overlap more are two persons
STATE_BYTES = 3_000  # for the centroids of a lane, one byte per dimension


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringConfig:
    """What an embedding model's distances mean, and how many speakers there may be.

    Two estimates of one voice from ``d`` and ``w`` seconds of speech are nearer than
    ``distance + distance_seconds / d + distance_weight_seconds / w``. The weight of a centroid stays below ``memory_seconds``.
    """

    distance: float
    distance_seconds: float
    distance_weight_seconds: float
    new_seconds: float = 1.5
    first_seconds: float = 0.4
    update_seconds: float = 0.8
    memory_seconds: float = 60.0
    min_speakers: int = 1
    max_speakers: int = 8
    continuity: float = 0.4  # how much nearer a voice is that earlier windows gave to a local speaker
    shared: float = 0.6  # of the limit: two local speakers of one window that are one voice are nearer
    eager: float = 0.75  # what thresholds are multiplied by while there are fewer speakers than there must be

    def limit(self, seconds: float, weight: float) -> float:
        """Return the largest distance between an embedding of ``seconds`` and a centroid of ``weight`` that is one voice."""
        return (
            self.distance + self.distance_seconds / max(seconds, 0.1) + self.distance_weight_seconds / max(weight, 0.1)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Voices:
    """The speakers of a lane: unit vectors, float32 [speakers, dimensions], and the seconds of speech behind each."""

    centroids: Floats = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    weights: tuple[float, ...] = ()

    @property
    def count(self) -> int:
        """Return the number of speakers."""
        return len(self.weights)


@dataclass(frozen=True, slots=True, eq=False)
class Local:
    """The local speakers of a window.

    ``active`` bool [frames, speakers]; ``embeddings`` unit vectors, float32 [speakers, dimensions], not finite where there was
    too little speech; ``seconds``, for each, how much speech the embedding was made from; ``is_clean``, whether nobody else spoke in it.
    """

    active: Flags
    embeddings: Floats
    seconds: tuple[float, ...]
    is_clean: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The speaker of each local speaker (None: nobody knows), and how much that is to be trusted, 0 to 1."""

    speakers: tuple[int | None, ...]
    trust: tuple[float, ...]


def assign(
    voices: Voices, local: Local, config: ClusteringConfig, *, step_seconds: float, earlier: Floats | None = None
) -> tuple[Voices, Assignment]:
    """Return the voices after a window whose last ``step_seconds`` are new, and who its local speakers are.

    ``earlier`` float32 [local speakers, voices]: the share of what a local speaker says in the window that earlier windows gave to each
    voice. Pairs of local speaker and voice are taken nearest first, measured by `ClusteringConfig.limit`. Who speaks at the same time as
    a local speaker is another person; who speaks at another time in the same window is so too, unless the voices are very near. What is
    farther than the limit from all voices is a new one when there is enough of it, and else the nearest.
    """
    count, known = len(local.seconds), voices.count
    usable = [one for one in range(count) if np.isfinite(local.embeddings[one]).all()]
    ratios = np.full((count, known), np.inf, dtype=np.float32)
    for one in usable:
        distances = 1.0 - voices.centroids @ local.embeddings[one] if known else np.zeros(0)
        limits = [config.limit(local.seconds[one], weight) for weight in voices.weights]
        ratios[one] = distances / np.asarray(limits) if known else ratios[one]
    likely = ratios * (1.0 - config.continuity * earlier) if earlier is not None and earlier.size else ratios
    eager = config.eager if known < config.min_speakers else 1.0
    speakers: list[int | None] = [None] * count
    fits = [np.inf] * count
    order = sorted(usable, key=lambda one: (-local.seconds[one], one))
    for one in order:
        for index in np.argsort(likely[one], kind="stable").tolist():
            is_near = likely[one, index] <= eager
            if is_near and not _is_other(local, speakers, one, index, float(ratios[one, index]), config):
                speakers[one], fits[one] = index, float(ratios[one, index])
                break
    for one in order:
        least = config.first_seconds if not voices.count else config.new_seconds
        has_room = voices.count < _most(config, local.embeddings.shape[1])
        if speakers[one] is None and has_room and local.seconds[one] >= least and local.is_clean[one]:
            speakers[one] = voices.count
            voices = _with_new(voices, local.embeddings[one], local.seconds[one])
    for one in order:
        for index in np.argsort(likely[one], kind="stable").tolist():
            if speakers[one] is None and not _overlaps(local, speakers, one, index):
                speakers[one] = index
    trust = [_trust(ratios[one], speakers[one], local.seconds[one]) for one in range(count)]
    for one in usable:
        index = speakers[one]
        if (
            index is not None
            and fits[one] <= 1.0
            and local.is_clean[one]
            and local.seconds[one] >= config.update_seconds
        ):
            fresh = step_seconds * min(1.0, local.seconds[one] / 3.0)
            voices = _nearer(voices, index, local.embeddings[one], fresh, config.memory_seconds)
    return voices, Assignment(tuple(speakers), tuple(trust))


def _is_other(
    local: Local, speakers: Sequence[int | None], one: int, index: int, ratio: float, config: ClusteringConfig
) -> bool:
    """Return whether the voice belongs to another local speaker of the window already, who is not the same person."""
    if index not in speakers:
        return False
    return ratio > config.shared or _overlaps(local, speakers, one, index)


def _overlaps(local: Local, speakers: Sequence[int | None], one: int, index: int) -> bool:
    """Return whether who has the voice already speaks at the same time."""
    return any(speaker == index and _overlap(local, one, other) for other, speaker in enumerate(speakers))


def _trust(ratios: Floats, speaker: int | None, seconds: float) -> float:
    """Return how much an assignment is to be trusted: by the speech behind it, and by how far the next voice is."""
    if speaker is None:
        return 0.0
    share = min(1.0, seconds / 2.0)
    others = np.delete(ratios, speaker) if speaker < len(ratios) else ratios
    others = others[np.isfinite(others)]
    if speaker >= len(ratios) or not len(others) or not np.isfinite(ratios[speaker]):
        return share
    return share * min(1.0, max(0.1, float(others.min() - ratios[speaker])))


def rounded(voices: Voices) -> Voices:
    """Return the voices as they come back from `to_bytes` and `from_bytes`."""
    return from_bytes(to_bytes(voices), voices.weights) if voices.count else voices


def to_bytes(voices: Voices) -> bytes:
    """Return the centroids as signed 8-bit integers, the largest of each 127, one after the other."""
    if not voices.count:
        return b""
    scale = 127.0 / np.maximum(np.abs(voices.centroids).max(axis=1, keepdims=True), 1e-12)
    data: bytes = np.rint(voices.centroids * scale).astype(np.int8).tobytes()
    return data


def from_bytes(data: bytes, weights: Sequence[float]) -> Voices:
    """Return the voices of `to_bytes`. Raises ValueError when the data does not divide into so many centroids."""
    if not weights:
        return Voices()
    if not data or len(data) % len(weights):
        raise ValueError(f"{len(data)} bytes are not {len(weights)} centroids")
    values = np.frombuffer(data, dtype=np.int8).astype(np.float32).reshape(len(weights), -1)
    return Voices(unit(values), tuple(weights))


def unit(vectors: Floats) -> Floats:
    """Return vectors, float32 [..., dimensions], at length one; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled


def _most(config: ClusteringConfig, dimensions: int) -> int:
    return max(1, min(config.max_speakers, STATE_BYTES // max(dimensions, 1)))


def _overlap(local: Local, one: int, other: int) -> bool:
    if one == other:
        return False
    both = local.active[:, one] & local.active[:, other]
    shorter = min(local.active[:, one].sum(), local.active[:, other].sum())
    return bool(both.sum() > SHARED_SHARE * shorter)


def _with_new(voices: Voices, embedding: Floats, seconds: float) -> Voices:
    centroids = np.concatenate([voices.centroids.reshape(voices.count, len(embedding)), unit(embedding)[None]])
    return Voices(centroids, (*voices.weights, round(seconds, 3)))


def _nearer(voices: Voices, index: int, embedding: Floats, seconds: float, memory: float) -> Voices:
    weight = voices.weights[index]
    centroids = voices.centroids.copy()
    centroids[index] = unit(centroids[index] * weight + unit(embedding) * seconds)
    weights = list(voices.weights)
    weights[index] = round(min(weight + seconds, memory), 3)
    return Voices(centroids, tuple(weights))
