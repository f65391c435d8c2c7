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
from dataclasses import dataclass, field, replace

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
    merge: float = 0.6  # of the limit: two voices that are nearer are one
    merge_seconds: float = 2.0  # of speech behind both
    run_seconds: float = 0.8
    same_owner: float = 1.2
    other_owner: float = 0.8
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
    """The voices of a lane: unit vectors, float32 [voices, dimensions], the seconds of speech behind each, and the label of each.

    ``same_as`` is the voice that a voice has turned out to be; its own index while it is none. ``next_label`` was given to nobody yet.
    """

    centroids: Floats = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    weights: tuple[float, ...] = ()
    labels: tuple[int, ...] = ()
    same_as: tuple[int, ...] = ()
    next_label: int = 1

    @property
    def count(self) -> int:
        """Return the number of voices, those included that have turned out to be others."""
        return len(self.weights)

    @property
    def own(self) -> tuple[int, ...]:
        """Return the voices that are not others."""
        return tuple(index for index, other in enumerate(self.same_as) if other == index)


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
    owners: tuple[int, ...] = ()

    def column(self, members: Sequence[int]) -> Flags:
        """Return when any of ``members`` speaks: bool [frames]."""
        found: Flags = self.active[:, list(members)].any(axis=1)
        return found


@dataclass(frozen=True, slots=True)
class Assignment:
    """The speaker of each local speaker (None: nobody knows), and how much that is to be trusted, 0 to 1."""

    speakers: tuple[int | None, ...]
    trust: tuple[float, ...]


def persons(runs: Local, config: ClusteringConfig) -> tuple[Local, tuple[int, ...]]:
    """Return the persons of a window whose ``runs`` are stretches of speech with an owner each, and which person each run is.

    Runs of enough speech are joined as long as their voices are near, those of one owner more readily than others, and never who speaks
    at the same time. Short ones go to their owner's nearest, or to the nearest voice.
    """
    count = len(runs.seconds)
    usable = [one for one in range(count) if np.isfinite(runs.embeddings[one]).all()]
    groups = [[one] for one in usable if runs.seconds[one] >= config.run_seconds and runs.is_clean[one]]
    while len(groups) > 1:
        pairs = [
            (_strangeness(runs, groups[one], groups[other], config), one, other)
            for one in range(len(groups))
            for other in range(one + 1, len(groups))
        ]
        nearest, one, other = min(pairs)
        if nearest > 1.0:
            break
        groups[one] += groups.pop(other)
    for one in sorted(
        set(range(count)) - {member for group in groups for member in group}, key=lambda at: -runs.seconds[at]
    ):
        home = _home(runs, groups, one)
        if home is None:
            groups.append([one])
        else:
            groups[home].append(one)
    whose = [0] * count
    for number, group in enumerate(groups):
        for member in group:
            whose[member] = number
    return _joined(runs, groups, config), tuple(whose)


def _strangeness(runs: Local, one: Sequence[int], other: Sequence[int], config: ClusteringConfig) -> float:
    """Return how far two groups of runs are from being one person: above 1 they are two."""
    if _both(runs.column(one), runs.column(other)):
        return np.inf
    voices = [_voice(runs, group) for group in (one, other)]
    seconds = [sum(runs.seconds[member] for member in group) for group in (one, other)]
    is_same = bool({runs.owners[member] for member in one} & {runs.owners[member] for member in other})
    ease = config.same_owner if is_same else config.other_owner
    return float(1.0 - voices[0] @ voices[1]) / (ease * config.limit(min(seconds), max(seconds)))


def _home(runs: Local, groups: Sequence[Sequence[int]], one: int) -> int | None:
    """Return the group of a short run: the nearest in time of its owner's, else the nearest voice; None where there is none."""
    free = [number for number, group in enumerate(groups) if not _both(runs.column(group), runs.active[:, one])]
    at = float(np.flatnonzero(runs.active[:, one]).mean())
    own = [
        (min(abs(float(frame) - at) for frame in np.flatnonzero(runs.active[:, member])), number)
        for number in free
        for member in groups[number]
        if runs.owners[member] == runs.owners[one]
    ]
    if own:
        return min(own)[1]
    return None


def _both(one: Flags, other: Flags) -> bool:
    """Return whether two speak at the same time, for a good part of the shorter one's time."""
    return bool((one & other).sum() > SHARED_SHARE * min(one.sum(), other.sum()))


def _voice(runs: Local, group: Sequence[int]) -> Floats:
    heard = [member for member in group if np.isfinite(runs.embeddings[member]).all() and runs.is_clean[member]]
    heard = heard or [member for member in group if np.isfinite(runs.embeddings[member]).all()]
    if not heard:
        return np.full(runs.embeddings.shape[1], np.nan, dtype=np.float32)
    weights = np.array([min(runs.seconds[member], 4.0) for member in heard], dtype=np.float32)
    return unit(weights @ runs.embeddings[heard])


def _joined(runs: Local, groups: Sequence[Sequence[int]], config: ClusteringConfig) -> Local:
    clean = [[member for member in group if runs.is_clean[member]] for group in groups]
    seconds = [sum(runs.seconds[member] for member in own or group) for own, group in zip(clean, groups, strict=True)]
    size = runs.embeddings.shape[1]
    return Local(
        active=np.stack([runs.column(group) for group in groups], axis=1) if groups else runs.active[:, :0],
        embeddings=np.stack([_voice(runs, group) for group in groups]) if groups else np.zeros((0, size), np.float32),
        seconds=tuple(seconds),
        is_clean=tuple(bool(own) for own in clean),
        owners=tuple(range(len(groups))),
    )


def assign(
    voices: Voices, local: Local, config: ClusteringConfig, *, step_seconds: float, earlier: Floats | None = None
) -> tuple[Voices, Assignment]:
    """Return the voices after a window whose last ``step_seconds`` are new, and who its persons are.

    ``earlier`` float32 [persons, voices]: the share of what a person says in the window that earlier windows gave to each voice. Persons
    choose in order of their speech, each the nearest voice within `ClusteringConfig.limit`. Who speaks at the same time is another
    person; who speaks at another time of the window is so too, unless the voice is very near. What is farther from all voices is a new
    one when there is enough of it, and else the nearest, from which no voice learns. Voices that have come near each other are one.
    """
    count, known = len(local.seconds), voices.count
    usable = [one for one in range(count) if np.isfinite(local.embeddings[one]).all()]
    ratios = np.full((count, known), np.inf, dtype=np.float32)
    for one in usable:
        for index in voices.own:
            distance = 1.0 - float(voices.centroids[index] @ local.embeddings[one])
            ratios[one, index] = distance / config.limit(local.seconds[one], voices.weights[index])
    likely = ratios * (1.0 - config.continuity * earlier) if earlier is not None and earlier.size else ratios
    eager = config.eager if len(voices.own) < config.min_speakers else 1.0
    speakers: list[int | None] = [None] * count
    fits = [np.inf] * count
    order = sorted(usable, key=lambda one: (-local.seconds[one], one))
    for one in order:
        for index in _nearest_first(likely[one]):
            is_near = likely[one, index] <= eager
            if is_near and not _is_other(local, speakers, one, index, float(ratios[one, index]), config):
                speakers[one], fits[one] = index, float(ratios[one, index])
                break
    for one in order:
        least = config.first_seconds if not voices.count else config.new_seconds
        has_room = len(voices.own) < config.max_speakers and voices.count < most_voices(local.embeddings.shape[1])
        if speakers[one] is None and has_room and local.seconds[one] >= least and local.is_clean[one]:
            speakers[one] = voices.count
            voices = _with_new(voices, local.embeddings[one], local.seconds[one])
    for one in order:
        for index in _nearest_first(likely[one]):
            if speakers[one] is None and not _overlaps(local, speakers, one, index):
                speakers[one] = index
    trust = [_trust(ratios[one], speakers[one], local.seconds[one]) for one in range(count)]
    for one in usable:
        whose = speakers[one]
        is_enough = local.is_clean[one] and local.seconds[one] >= config.update_seconds
        if whose is not None and fits[one] <= 1.0 and is_enough:
            fresh = step_seconds * min(1.0, local.seconds[one] / 3.0)
            voices = _nearer(voices, whose, local.embeddings[one], fresh, config.memory_seconds)
    return _merged(voices, config), Assignment(tuple(speakers), tuple(trust))


def _nearest_first(ratios: Floats) -> list[int]:
    return [index for index in np.argsort(ratios, kind="stable").tolist() if np.isfinite(ratios[index])]


def _merged(voices: Voices, config: ClusteringConfig) -> Voices:
    """Return the voices; of two that are known well and near each other the younger one has turned out to be the older."""
    own = [index for index in voices.own if voices.weights[index] >= config.merge_seconds]
    for place, older in enumerate(own):
        for younger in own[place + 1 :]:
            limit = config.merge * config.limit(voices.weights[younger], voices.weights[older])
            if (
                len(voices.own) <= config.min_speakers
                or 1.0 - float(voices.centroids[older] @ voices.centroids[younger]) > limit
            ):
                continue
            weights = list(voices.weights)
            both = weights[older] + weights[younger]
            centroids = voices.centroids.copy()
            centroids[older] = unit(centroids[older] * weights[older] + centroids[younger] * weights[younger])
            weights[older] = round(min(both, config.memory_seconds), 3)
            same_as = tuple(older if other == younger else other for other in voices.same_as)
            merged = replace(voices, centroids=centroids, weights=tuple(weights), same_as=same_as)
            return _merged(merged, config)
    return voices


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


def settled(voices: Voices) -> Voices:
    """Return the voices that are not others, rounded to what `to_bytes` keeps of them."""
    own = list(voices.own)
    if not own:
        return replace(voices, centroids=np.zeros((0, 0), dtype=np.float32), weights=(), labels=(), same_as=())
    kept = replace(
        voices,
        centroids=voices.centroids[own],
        weights=tuple(voices.weights[index] for index in own),
        labels=tuple(voices.labels[index] for index in own),
        same_as=tuple(range(len(own))),
    )
    return from_bytes(to_bytes(kept), kept.weights, kept.labels, kept.next_label)


def to_bytes(voices: Voices) -> bytes:
    """Return the centroids as signed 8-bit integers, the largest of each 127, one after the other."""
    if not voices.count:
        return b""
    scale = 127.0 / np.maximum(np.abs(voices.centroids).max(axis=1, keepdims=True), 1e-12)
    data: bytes = np.rint(voices.centroids * scale).astype(np.int8).tobytes()
    return data


def from_bytes(data: bytes, weights: Sequence[float], labels: Sequence[int], next_label: int) -> Voices:
    """Return the voices of `to_bytes`. Raises ValueError when the data does not divide into so many centroids."""
    if not weights:
        return Voices(next_label=next_label)
    if not data or len(data) % len(weights) or len(labels) != len(weights):
        raise ValueError(f"{len(data)} bytes and {len(labels)} labels are not {len(weights)} voices")
    values = np.frombuffer(data, dtype=np.int8).astype(np.float32).reshape(len(weights), -1)
    return Voices(unit(values), tuple(weights), tuple(labels), tuple(range(len(weights))), next_label)


def unit(vectors: Floats) -> Floats:
    """Return vectors, float32 [..., dimensions], at length one; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled


def most_voices(dimensions: int) -> int:
    """Return how many voices the state of a lane has room for."""
    return max(1, STATE_BYTES // max(dimensions, 1))


def _overlap(local: Local, one: int, other: int) -> bool:
    if one == other:
        return False
    both = local.active[:, one] & local.active[:, other]
    shorter = min(local.active[:, one].sum(), local.active[:, other].sum())
    return bool(both.sum() > SHARED_SHARE * shorter)


def _with_new(voices: Voices, embedding: Floats, seconds: float) -> Voices:
    centroids = np.concatenate([voices.centroids.reshape(voices.count, len(embedding)), unit(embedding)[None]])
    return Voices(
        centroids,
        (*voices.weights, round(seconds, 3)),
        (*voices.labels, voices.next_label),
        (*voices.same_as, voices.count),
        voices.next_label + 1,
    )


def _nearer(voices: Voices, index: int, embedding: Floats, seconds: float, memory: float) -> Voices:
    weight = voices.weights[index]
    centroids = voices.centroids.copy()
    centroids[index] = unit(centroids[index] * weight + unit(embedding) * seconds)
    weights = list(voices.weights)
    weights[index] = round(min(weight + seconds, memory), 3)
    return replace(voices, centroids=centroids, weights=tuple(weights))
