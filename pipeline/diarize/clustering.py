"""Online clustering of voices, on arrays: who of the call's speakers is heard in a stretch of speech.

What is known of a call's voices is a bounded set of points: each stretch of about a second is one, and when there are too many, the two
that are nearest become their mean, as in BIRCH (T. Zhang, R. Ramakrishnan, M. Livny, 1996). Whenever a point is added, all are parted
into speakers anew, see `pipeline.diarize.partition`. A label stays with the cluster that holds most of what was given it.

Single centroids that learn as they go (diart's clustering, after J. M. Coria et al., ASRU 2021) were tried first: a voice that two people
have spoken into once stays between them for the rest of the call.

Distances are cosine distances, 0 to 2. Lengths are seconds of speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.diarize.partition import ClusteringConfig, costs_of, partition
from pipeline.diarize.points import Voices, most_points, unit
from pipeline.diarize.window import Flags, Floats


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
    clusters = partition(voices, config)
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
            free = [label for label in range(1, next_label) if label not in given.values()]
            if free and next_label > config.max_speakers:  # a call has no more labels than it may have speakers
                given[at] = free[-1]
            else:
                given[at], next_label = next_label, next_label + 1
    means = [voices.mean(cluster) for cluster in clusters]
    for at, cluster in enumerate(clusters):
        home = at if at in given else max(speaking, key=lambda other: float(means[other] @ means[at]))
        for index in cluster:
            labels[index] = given[home]
    return replace(voices, labels=tuple(labels), next_label=next_label)


def _compressed(voices: Voices, config: ClusteringConfig) -> Voices:
    """Return the voices with as many points as there is room for: the nearest two of one label become their mean."""
    while len(voices.weights) > most_points(voices.points.shape[1]):
        costs = costs_of(voices.weights, voices.points)
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
