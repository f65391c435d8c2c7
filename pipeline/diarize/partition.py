"""Which points are one speaker: Ward's tree, cut where both halves are voices, or the speakers there were, whichever fits better.

Ward's clustering (J. H. Ward, 1963) joins the points anew whenever there is one more, so that a decision made on little speech is
revised by what is said later. It joins for good, though: a few points that lie between two speakers may turn it over, and the labels
with it. So what it finds is improved as k-means does (S. Lloyd, 1982), and the speakers there were are kept, improved alike, unless
the points lie nearer to those found now. Two speakers become one only when their own voices are near enough for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.diarize.points import Voices, unit
from pipeline.diarize.window import Floats

MOST_ROUNDS = 10  # of k-means; it rarely takes more than three


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringConfig:
    """What an embedding model's distances mean, and how many speakers there may be.

    Means of one voice from ``a`` and ``b`` seconds of speech are nearer than ``distance + distance_seconds * (1 / a + 1 / b)``.
    """

    distance: float
    distance_seconds: float
    point_seconds: float = 0.6  # stretches of less are no points
    new_seconds: float = 1.2  # of speech before a cluster is a speaker
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


def partition(voices: Voices, config: ClusteringConfig) -> list[list[int]]:
    """Return the points of each cluster, in order. A single one may stand for less speech than a speaker needs.

    Points without a label have 0.
    """
    found = _improved(voices, np.stack([voices.mean(cluster) for cluster in _cut(voices, config)]))
    known = [label for label in voices.speakers if label]
    if len(known) > 1:
        kept = _improved(voices, np.stack([voices.centroid(label) for label in known]))
        more = len(found.clusters) - len(kept.clusters)
        if (more < 0 or (more == 0 and kept.spread <= found.spread)) and _are_apart(kept, config):
            found = kept
    return sorted(found.clusters, key=min)


@dataclass(frozen=True, slots=True, eq=False)
class _Partition:
    """Points by cluster; ``means`` float32 [clusters, dimensions] and the seconds of speech behind each; ``spread``, seconds times
    distance, is how far the points are from the means of their clusters."""

    clusters: list[list[int]]
    means: Floats
    seconds: tuple[float, ...]
    spread: float


def _improved(voices: Voices, means: Floats) -> _Partition:
    """Return the points by the nearest mean, means moved until no point changes sides. Clusters that lose all points are gone."""
    weights = np.asarray(voices.weights, dtype=np.float32)
    sides: NDArray[np.intp] = np.full(len(weights), -1)
    for _ in range(MOST_ROUNDS):
        _, nearest = np.unique(np.argmax(voices.points @ means.T, axis=1), return_inverse=True)
        if np.array_equal(nearest, sides):
            break
        sides = nearest
        clusters = [np.flatnonzero(sides == at).tolist() for at in range(int(sides.max()) + 1)]
        means = np.stack([voices.mean(cluster) for cluster in clusters])
    distances = 1.0 - (voices.points * means[sides]).sum(axis=1)
    return _Partition(
        clusters=clusters,
        means=means,
        seconds=tuple(float(weights[cluster].sum()) for cluster in clusters),
        spread=float(weights @ distances),
    )


def _are_apart(kept: _Partition, config: ClusteringConfig) -> bool:
    """Return whether clusters that have labels may keep them: there is enough of each, and no two are near enough for one voice."""
    count = len(kept.clusters)
    if min(kept.seconds) < config.new_seconds or count > config.max_speakers:
        return False
    ease = config.steady * (config.eager if count <= config.min_speakers else config.third if count > 2 else 1.0)
    distances = 1.0 - kept.means @ kept.means.T
    return all(
        distances[one, other] > ease * config.limit(kept.seconds[one], kept.seconds[other])
        for one in range(count)
        for other in range(one)
    )


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


def _cut(voices: Voices, config: ClusteringConfig) -> list[list[int]]:
    """Return points of each speaker: the tree that Ward's clustering makes of all points, cut where both halves are voices.

    The largest difference is cut first, as long as there may be more speakers. What is too little for a speaker is left out.
    """
    leaves, open_nodes = list[_Node](), [_without_outliers(_tree(voices), config)]
    while open_nodes:
        node = max(open_nodes, key=lambda one: (_difference(one), -one.points[0]))
        open_nodes.remove(node)
        speakers = len(leaves) + len(open_nodes) + 1
        if node.halves is not None and speakers < config.max_speakers and _is_two(node, voices, speakers, config):
            open_nodes += [_without_outliers(half, config) for half in node.halves]
        else:
            leaves.append(node)
    return [sorted(node.points) for node in sorted(leaves, key=lambda one: min(one.points))]


def _without_outliers(node: _Node, config: ClusteringConfig) -> _Node:
    """Return what is left of a node without halves that are too little for a speaker: a cough would hide all voices beside it."""
    while node.halves is not None:
        light, heavy = sorted(node.halves, key=lambda half: half.weight)
        if not light.weight < config.new_seconds <= heavy.weight:
            break
        node = heavy
    return node


def _tree(voices: Voices) -> _Node:
    """Return all points, joined pair by pair: the one first that adds least to the sum of squares."""
    nodes = [
        _Node([index], weight, voices.points[index] * np.float32(weight)) for index, weight in enumerate(voices.weights)
    ]
    while len(nodes) > 1:
        means = np.stack([node.mean for node in nodes])
        costs = costs_of([node.weight for node in nodes], means)
        costs[np.tril_indices(len(nodes))] = np.inf
        one, other = np.unravel_index(int(np.argmin(costs)), costs.shape)
        second = nodes.pop(int(other))
        first = nodes[int(one)]
        nodes[int(one)] = _Node(
            first.points + second.points, first.weight + second.weight, first.sum + second.sum, (first, second)
        )
    return nodes[0]


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


def costs_of(weights: Sequence[float], vectors: Floats) -> NDArray[np.float64]:
    """Return what joining each pair adds to the sum of squares: float64 [count, count]."""
    sizes = np.asarray(weights)
    costs: NDArray[np.float64] = (
        sizes[:, None] * sizes[None, :] / (sizes[:, None] + sizes[None, :]) * (1.0 - vectors @ vectors.T)
    )
    return costs
