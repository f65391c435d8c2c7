"""Online clustering of voices, on arrays: who of the call's speakers is heard in a stretch of speech.

What is known of a call's voices is a bounded set of points: each stretch of about a second is one, and when there are too many, the two
that are nearest become their mean, as in BIRCH (T. Zhang, R. Ramakrishnan, M. Livny, 1996). Whenever a point is added, Ward's clustering
(1963) joins them anew: a decision that was made on little speech is revised by what is said later. Two clusters stay apart that are
farther from each other than voices of one person are, which depends on how much speech stands behind them: means of one second are
three times as far apart as means of a minute. A label stays with the cluster that holds most of what was given it.

Single centroids that learn as they go (diart's clustering, after J. M. Coria et al., ASRU 2021) were tried first: a voice that two people
have spoken into once stays between them for the rest of the call.

Distances are cosine distances, 0 to 2. Lengths are seconds of speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

STATE_BYTES = 2_900  # for the points of a lane, half a byte per dimension
MOST_POINTS = 24
LEVELS = 7  # of four bits, on either side of zero


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringConfig:
    """What an embedding model's distances mean, and how many speakers there may be.

    Means of one voice from ``a`` and ``b`` seconds of speech are nearer than ``distance + distance_seconds * (1 / a + 1 / b)``.
    """

    distance: float
    distance_seconds: float
    point_seconds: float = 0.6  # stretches of less are no points
    new_seconds: float = 2.0  # of speech before a cluster is a speaker
    memory_seconds: float = 60.0  # the most that a point stands for
    owner: float = 0.5  # how much the rest of what a local speaker says counts for one stretch of it
    min_speakers: int = 1
    max_speakers: int = 8
    eager: float = 0.6  # what limits are multiplied by while there are fewer speakers than there must be
    third: float = 1.5  # the same for a third speaker and more: most calls have two
    steady: float = 0.8  # the same for two speakers that are known: labels do not come and go

    def limit(self, one: float, other: float) -> float:
        """Return the largest distance between means of so many seconds that may be one voice."""
        return self.distance + self.distance_seconds * (1 / max(one, 0.1) + 1 / max(other, 0.1))


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


@dataclass(frozen=True, slots=True, eq=False)
class Local:
    """Stretches of speech in a window.

    ``active`` bool [frames, stretches]; ``embeddings`` unit vectors, float32 [stretches, dimensions], not finite where there was too
    little speech; ``seconds``, for each, how much speech the embedding was made from; ``is_clean``, whether nobody else spoke in it;
    ``owners``, which local speaker it is.
    """

    active: Flags
    embeddings: Floats
    seconds: tuple[float, ...]
    is_clean: tuple[bool, ...]
    owners: tuple[int, ...]

    def is_usable(self, one: int) -> bool:
        """Return whether there is an embedding."""
        return bool(np.isfinite(self.embeddings[one]).all())


@dataclass(frozen=True, slots=True)
class Assignment:
    """The label of each stretch (None: nobody knows), and how much that is to be trusted, 0 to 1."""

    labels: tuple[int | None, ...]
    trust: tuple[float, ...]


def learn(voices: Voices, embedding: Floats, seconds: float, config: ClusteringConfig) -> Voices:
    """Return the voices that know one more stretch of speech of one person."""
    known = len(voices.weights)
    points = np.concatenate([voices.points.reshape(known, len(embedding)), unit(embedding)[None]])
    grown = replace(voices, points=points, weights=(*voices.weights, round(seconds, 3)), labels=(*voices.labels, 0))
    return _compressed(_labelled(grown, config), config)


def assign(voices: Voices, local: Local, config: ClusteringConfig) -> Assignment:
    """Return who is heard in each stretch: the speaker whose voice is nearest to it and to what its local speaker says besides.

    Stretches without an embedding are the nearest in time of their local speaker's. Who speaks at the same time is another person, where
    there is another.
    """
    count, labels = len(local.seconds), voices.speakers
    found: list[int | None] = [None] * count
    trust = [0.0] * count
    usable = [one for one in range(count) if local.is_usable(one)]
    if not labels or not usable:
        return Assignment(tuple(found), tuple(trust))
    centroids = np.stack([voices.centroid(label) for label in labels])
    own = {one: 1.0 - centroids @ local.embeddings[one] for one in usable}
    scores = {one: own[one] + config.owner * _rest(local, own, one) for one in usable}
    for one in sorted(usable, key=lambda one: (-local.seconds[one], one)):
        order = np.argsort(scores[one], kind="stable").tolist()
        free = [at for at in order if not _is_taken(local, found, one, labels[at])]
        best = (free or order)[0]
        found[one] = labels[best]
        others = [float(scores[one][at]) for at in order if at != best]
        margin = min(others) - float(scores[one][best]) if others else 1.0
        trust[one] = min(1.0, local.seconds[one]) * min(1.0, max(0.1, margin / config.distance))
    for one in range(count):
        if found[one] is None:
            near = [other for other in usable if local.owners[other] == local.owners[one]]
            if near:
                whose = min(near, key=lambda other: abs(_middle(local, other) - _middle(local, one)))
                found[one], trust[one] = found[whose], 0.5 * trust[whose]
    return Assignment(tuple(found), tuple(trust))


def _rest(local: Local, own: dict[int, Floats], one: int) -> Floats:
    """Return the mean distance of the other stretches of a local speaker, by their seconds."""
    others = [other for other in own if other != one and local.owners[other] == local.owners[one]]
    if not others:
        return np.zeros_like(own[one])
    weights = np.asarray([local.seconds[other] for other in others], dtype=np.float32)
    mean: Floats = weights @ np.stack([own[other] for other in others]) / max(float(weights.sum()), 1e-6)
    return mean


def _is_taken(local: Local, found: Sequence[int | None], one: int, label: int) -> bool:
    """Return whether somebody who speaks at the same time has the label."""
    for other, has in enumerate(found):
        if has == label and local.owners[other] != local.owners[one]:
            both = (local.active[:, one] & local.active[:, other]).sum()
            if both > 0.3 * min(local.active[:, one].sum(), local.active[:, other].sum()):
                return True
    return False


def _middle(local: Local, one: int) -> float:
    return float(np.flatnonzero(local.active[:, one]).mean())


def _labelled(voices: Voices, config: ClusteringConfig) -> Voices:
    """Return the voices clustered anew. Clusters of little speech have the label of the nearest that is a speaker."""
    clusters = _clusters(voices, config)
    weight = [sum(voices.weights[index] for index in cluster) for cluster in clusters]
    order = sorted(range(len(clusters)), key=lambda at: (-weight[at], clusters[at]))
    speaking = [at for at in order if weight[at] >= config.new_seconds] or order[:1]
    labels, next_label = list(voices.labels), voices.next_label
    given: dict[int, int] = {}
    claims = sorted(
        (
            (sum(voices.weights[index] for index in clusters[at] if voices.labels[index] == label), -label, at)
            for at in speaking
            for label in {voices.labels[index] for index in clusters[at]} - {0}
        ),
        reverse=True,
    )
    for _, negative, at in claims:
        if at not in given and -negative not in given.values():
            given[at] = -negative
    for at in sorted(speaking, key=lambda at: clusters[at]):
        if at not in given:
            given[at], next_label = next_label, next_label + 1
    means = [voices.mean(cluster) for cluster in clusters]
    for at, cluster in enumerate(clusters):
        home = at if at in given else max(speaking, key=lambda other: float(means[other] @ means[at]))
        for index in cluster:
            labels[index] = given[home]
    return replace(voices, labels=tuple(labels), next_label=next_label)


@dataclass(slots=True, eq=False)
class _Node:
    """Points that Ward's clustering has joined, and the two nodes they were before."""

    points: list[int]
    weight: float
    sum: Floats
    halves: tuple[_Node, _Node] | None = None

    @property
    def mean(self) -> Floats:
        """Return the voice of the points."""
        return unit(self.sum)


def _clusters(voices: Voices, config: ClusteringConfig) -> list[list[int]]:
    """Return the points of each speaker: the tree that Ward's clustering makes of all points, cut where both halves are voices.

    The largest difference is cut first, as long as there may be more speakers.
    """
    leaves, open_nodes = list[_Node](), [_tree(voices)]
    while open_nodes:
        node = max(open_nodes, key=lambda one: (_difference(one), -one.points[0]))
        open_nodes.remove(node)
        speakers = len(leaves) + len(open_nodes) + 1
        if node.halves is not None and speakers < config.max_speakers and _is_two(node, voices, speakers, config):
            open_nodes += node.halves
        else:
            leaves.append(node)
    return [sorted(node.points) for node in sorted(leaves, key=lambda one: min(one.points))]


def _tree(voices: Voices) -> _Node:
    """Return all points, joined pair by pair: the one first that adds least to the sum of squares."""
    nodes = [
        _Node([index], weight, voices.points[index] * np.float32(weight)) for index, weight in enumerate(voices.weights)
    ]
    while len(nodes) > 1:
        means = np.stack([node.mean for node in nodes])
        costs = _costs([node.weight for node in nodes], means)
        costs[np.tril_indices(len(nodes))] = np.inf
        one, other = np.unravel_index(int(np.argmin(costs)), costs.shape)
        second = nodes.pop(int(other))
        first = nodes[int(one)]
        nodes[int(one)] = _Node(
            first.points + second.points, first.weight + second.weight, first.sum + second.sum, (first, second)
        )
    return nodes[0]


def _costs(weights: Sequence[float], vectors: Floats) -> NDArray[np.float64]:
    """Return what joining each pair adds to the sum of squares: float64 [count, count]."""
    sizes = np.asarray(weights)
    costs: NDArray[np.float64] = (
        sizes[:, None] * sizes[None, :] / (sizes[:, None] + sizes[None, :]) * (1.0 - vectors @ vectors.T)
    )
    return costs


def _difference(node: _Node) -> float:
    """Return what the halves of a node add to the sum of squares; 0 of a single point."""
    if node.halves is None:
        return 0.0
    one, other = node.halves
    return one.weight * other.weight / node.weight * float(1.0 - one.mean @ other.mean)


def _is_two(node: _Node, voices: Voices, speakers: int, config: ClusteringConfig) -> bool:
    """Return whether the halves of a node are two speakers: there is enough of both, and they are too far apart for one.

    Two that have labels are kept apart more readily, and all where there are too few speakers.
    """
    assert node.halves is not None
    one, other = node.halves
    if min(one.weight, other.weight) < config.new_seconds:
        return False
    ease = config.eager if speakers < config.min_speakers else config.third if speakers >= 2 else 1.0
    names = [_names(half, voices) for half in node.halves]
    if names[0] and names[1] and names[0] != names[1]:
        ease *= config.steady
    return float(1.0 - one.mean @ other.mean) > ease * config.limit(one.weight, other.weight)


def _names(node: _Node, voices: Voices) -> int:
    """Return the label that most of a node has; 0 for none."""
    weights: dict[int, float] = {}
    for index in node.points:
        weights[voices.labels[index]] = weights.get(voices.labels[index], 0.0) + voices.weights[index]
    return max(weights, key=lambda label: (weights[label], -label))


def _compressed(voices: Voices, config: ClusteringConfig) -> Voices:
    """Return the voices with as many points as there is room for: the nearest two of one label become their mean."""
    while len(voices.weights) > most_points(voices.points.shape[1]):
        costs = _costs(voices.weights, voices.points)
        labels = np.asarray(voices.labels)
        is_pair = np.triu(labels[:, None] == labels[None, :], k=1)
        if not is_pair.any():
            is_pair = np.triu(np.ones_like(is_pair), k=1)
        one, other = np.unravel_index(int(np.argmin(np.where(is_pair, costs, np.inf))), costs.shape)
        points, weights, own = voices.points.copy(), list(voices.weights), list(voices.labels)
        points[one] = unit(points[one] * np.float32(weights[one]) + points[other] * np.float32(weights[other]))
        weights[one] = round(min(weights[one] + weights[other], config.memory_seconds), 3)
        del weights[other], own[other]
        voices = replace(voices, points=np.delete(points, other, axis=0), weights=tuple(weights), labels=tuple(own))
    return voices


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
    """Return the voices of `to_bytes`. Raises ValueError when the data are not so many points."""
    if not weights:
        return Voices(next_label=next_label)
    width = (dimensions + 1) // 2
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
