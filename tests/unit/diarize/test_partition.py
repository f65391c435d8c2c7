from __future__ import annotations

import math

import numpy as np

from pipeline.diarize.clustering import learn
from pipeline.diarize.partition import ClusteringConfig, partition
from pipeline.diarize.points import Floats, Voices, unit

CONFIG = ClusteringConfig(distance=0.075, distance_seconds=0.22)
DIMENSIONS, SOUNDS = 64, 10  # what is said moves a voice in a few directions, not in all


def stretches(between: float, *, seed: int, count: int = 120, within: float = 0.12) -> tuple[list[Floats], list[int]]:
    """Return stretches of two voices so far apart, and whose each is; ``within`` is how far a stretch is from its voice."""
    random = np.random.default_rng(seed)
    one = unit(np.abs(random.normal(size=DIMENSIONS)).astype(np.float32))
    aside = random.normal(size=DIMENSIONS).astype(np.float32)
    aside = unit(aside - one * (aside @ one))
    angle = math.acos(1 - between)
    voices = one, unit(one * math.cos(angle) + aside * math.sin(angle))
    directions = np.linalg.qr(random.normal(size=(DIMENSIONS, SOUNDS)))[0]
    found, whose, speaker = [], [], 0
    for _ in range(count):
        speaker = 1 - speaker if random.random() < 0.4 else speaker
        sound = unit((directions @ random.normal(size=SOUNDS)).astype(np.float32)) * math.tan(math.acos(1 - within))
        found.append(unit((voices[speaker] + sound).astype(np.float32)))
        whose.append(speaker)
    return found, whose


def test_two_voices_that_are_nearer_than_what_they_say_stay_two() -> None:
    """Ward's clustering alone takes them for one, or turns them over, in a third of these moments."""
    wrong = moments = 0
    for seed in range(8):
        heard, whose = stretches(0.09, seed=seed)
        known = Voices()
        for index, stretch in enumerate(heard):
            known = learn(known, stretch, 1.1, CONFIG)
            if index < len(heard) // 2:
                continue
            means = [np.mean([heard[at] for at in range(index) if whose[at] == speaker], axis=0) for speaker in (0, 1)]
            nearest = [max(known.speakers, key=lambda label: float(known.centroid(label) @ mean)) for mean in means]
            moments += 1
            wrong += nearest[0] == nearest[1]
    assert moments == 480
    assert wrong < 0.02 * moments


def test_speakers_are_kept_who_fit_as_well_as_those_that_are_found_anew() -> None:
    heard, whose = stretches(0.3, seed=1, count=20)
    known = Voices(np.stack(heard), (1.0,) * 20, tuple(2 if one else 1 for one in whose), next_label=3)
    clusters = partition(known, CONFIG)
    assert sorted(clusters) == sorted([[at for at in range(20) if whose[at] == one] for one in (0, 1)])


def test_speakers_become_one_when_their_own_voices_are_near_enough() -> None:
    heard, _ = stretches(0.0, seed=2, count=20)
    halves = tuple(1 + index % 2 for index in range(20))
    assert partition(Voices(np.stack(heard), (1.0,) * 20, halves, next_label=3), CONFIG) == [list(range(20))]


def test_no_more_speakers_are_kept_than_there_may_be() -> None:
    heard, whose = stretches(0.3, seed=1, count=20)
    known = Voices(np.stack(heard), (1.0,) * 20, tuple(2 if one else 1 for one in whose), next_label=3)
    one = ClusteringConfig(distance=0.075, distance_seconds=0.22, max_speakers=1)
    assert partition(known, one) == [list(range(20))]


def test_a_voice_of_too_little_speech_is_no_speaker_but_a_single_one_is() -> None:
    heard, whose = stretches(0.4, seed=3, count=20)
    known = Voices(np.stack(heard), tuple(0.05 if one else 1.0 for one in whose), (0,) * 20)
    assert partition(known, CONFIG) == [list(range(20))]
    assert partition(Voices(heard[0][None], (0.7,), (0,)), CONFIG) == [[0]]


def test_a_sound_that_is_no_voice_does_not_hide_two_that_are() -> None:
    heard, whose = stretches(0.25, seed=4, count=8)
    odd = unit(np.random.default_rng(9).normal(size=DIMENSIONS).astype(np.float32))
    known = Voices(np.stack([odd, *heard]), (0.9, *(1.1,) * 8), (0,) * 9)
    clusters = [{at - 1 for at in cluster if at} for cluster in partition(known, CONFIG)]
    assert sorted(map(sorted, clusters)) == sorted([[at for at in range(8) if whose[at] == one] for one in (0, 1)])
