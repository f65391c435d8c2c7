from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipeline.diarize.clustering import Local, assign, learn
from pipeline.diarize.partition import ClusteringConfig
from pipeline.diarize.points import Voices, from_bytes, most_points, rounded, to_bytes, unit

CONFIG = ClusteringConfig(distance=0.075, distance_seconds=0.22)
FRAMES = 250
RANDOM = np.random.default_rng(5)
ANN, BOB, CAT = unit(np.abs(RANDOM.normal(size=(3, 256))).astype(np.float32) ** 3)


def blurred(voice: np.ndarray, seed: int, amount: float = 0.45) -> np.ndarray:  # type: ignore[type-arg]
    """Return a voice as an encoder hears a second of it: 0.1 from what it hears of a minute."""
    noise = unit(np.random.default_rng(seed).normal(size=len(voice)).astype(np.float32))
    return unit(voice + amount * noise)


def talk(
    *voices: np.ndarray,  # type: ignore[type-arg]
    count: int,
    turn: int = 3,
    config: ClusteringConfig = CONFIG,
    start: Voices | None = None,
    seed: int = 0,
) -> Voices:
    """Return what is known of voices that take turns of ``turn`` seconds, after ``count`` seconds."""
    known = start or Voices()
    for second in range(count):
        voice = voices[second // turn % len(voices)]
        known = learn(known, blurred(voice, seed + second), 1.0, config)
    return known


def window(*stretches: tuple[np.ndarray, int, int, int]) -> Local:  # type: ignore[type-arg]
    """Return a window of (voice, first frame, end frame, owner) for each stretch."""
    active = np.zeros((FRAMES, len(stretches)), dtype=bool)
    for column, (_, first, end, _) in enumerate(stretches):
        active[first:end, column] = True
    return Local(
        active,
        np.stack([voice for voice, *_ in stretches]).astype(np.float32),
        tuple((end - first) / 50 for _, first, end, _ in stretches),
        (True,) * len(stretches),
        tuple(owner for *_, owner in stretches),
    )


def labels_of(known: Voices, voices: Sequence[np.ndarray]) -> list[int | None]:  # type: ignore[type-arg]
    return [assign(known, window((voice, 0, 60, 0)), CONFIG).labels[0] for voice in voices]


def test_the_voices_of_the_tests_are_as_far_apart_as_an_encoder_hears_people() -> None:
    assert 1 - ANN @ BOB > 0.3 < 1 - BOB @ CAT
    assert 1 - blurred(ANN, 1) @ ANN == pytest.approx(0.09, abs=0.03)


def test_the_first_speaker_is_known_at_once() -> None:
    known = talk(ANN, count=1)
    assert known.speakers == (1,)


def test_a_second_speaker_is_one_after_two_seconds() -> None:
    known = talk(ANN, count=5)
    known = talk(BOB, count=1, start=known, seed=50)
    assert known.speakers == (1,), "one second may be a cough"
    known = talk(BOB, count=2, start=known, seed=60)
    assert known.speakers == (1, 2)
    assert labels_of(known, [ANN, BOB]) == [1, 2]


@pytest.mark.parametrize("turn", [1, 3, 10])
def test_each_voice_has_one_label_through_a_long_call(turn: int) -> None:
    known = talk(ANN, BOB, CAT, count=300, turn=turn)
    assert sorted(labels_of(known, [ANN, BOB, CAT]), key=str) == [1, 2, 3]
    assert len(known.speakers) == 3
    assert len(known.weights) <= most_points(256)
    assert max(known.weights) <= CONFIG.memory_seconds


def test_labels_stay_when_more_is_said() -> None:
    known = talk(ANN, BOB, count=30)
    before = labels_of(known, [ANN, BOB])
    for seed in range(1_000, 1_200, 20):
        known = talk(BOB, ANN, CAT, count=20, start=known, seed=seed)
        assert labels_of(known, [ANN, BOB]) == before


def test_one_voice_is_one_speaker_however_long_it_speaks() -> None:
    known = Voices()
    for second in range(300):
        known = learn(known, blurred(ANN, second), 1.0, CONFIG)
        assert known.speakers == (1,)


def test_what_was_taken_for_one_voice_is_told_apart_when_more_is_said() -> None:
    """Two voices that are as near as two seconds of one: with half a minute of each they are two."""
    near = unit(ANN + 0.7 * unit(np.abs(RANDOM.normal(size=256)).astype(np.float32) ** 3))
    assert 0.08 < 1 - ANN @ near < 0.2
    assert talk(ANN, near, count=6).speakers == (1,)
    known = talk(ANN, near, count=90)
    assert len(known.speakers) == 2
    assert len(set(labels_of(known, [ANN, near]))) == 2


def test_no_more_speakers_than_there_may_be_and_no_fewer_than_there_must() -> None:
    two = replace(CONFIG, min_speakers=2, max_speakers=2)
    assert len(talk(ANN, BOB, CAT, count=120, config=two).speakers) == 2
    assert len(talk(ANN, BOB, count=60, config=replace(CONFIG, max_speakers=1)).speakers) == 1


def test_who_speaks_at_the_same_time_is_another() -> None:
    known = talk(ANN, BOB, count=30)
    found = assign(known, window((ANN, 0, 100, 0), (blurred(ANN, 7, 0.3), 20, 90, 1)), CONFIG)
    assert sorted(found.labels, key=str) == [1, 2]


def test_what_a_local_speaker_says_besides_counts() -> None:
    known = talk(ANN, BOB, count=30)
    first = labels_of(known, [ANN])[0]
    doubtful = unit(ANN + BOB * 1.02)
    alone = assign(known, window((doubtful, 0, 40, 0)), CONFIG)
    beside = assign(known, window((doubtful, 0, 40, 0), (ANN, 45, 200, 0)), CONFIG)
    assert alone.labels[0] != first
    assert beside.labels == (first, first)


def test_a_stretch_without_an_embedding_is_its_local_speakers() -> None:
    known = talk(ANN, BOB, count=30)
    nothing = np.full(256, np.nan)
    found = assign(known, window((ANN, 0, 60, 0), (BOB, 70, 130, 1), (nothing, 135, 142, 1)), CONFIG)
    assert found.labels[2] == found.labels[1] != found.labels[0]
    assert assign(known, window((nothing, 0, 10, 0)), CONFIG).labels == (None,)
    assert assign(Voices(), window((ANN, 0, 60, 0)), CONFIG).labels == (None,)


@pytest.mark.parametrize("dimensions", [5, 192, 256, 512])
def test_voices_come_back_as_they_were_rounded(dimensions: int) -> None:
    voices = unit(np.random.default_rng(3).normal(size=(2, dimensions)).astype(np.float32))
    known = rounded(talk(voices[0], voices[1], count=40))
    again = from_bytes(to_bytes(known), dimensions, known.weights, known.labels, known.next_label)
    assert np.array_equal(again.points, known.points)
    assert (again.weights, again.labels, again.next_label) == (known.weights, known.labels, known.next_label)
    assert len(to_bytes(known)) <= 2_900
    assert rounded(Voices(next_label=4)).next_label == 4
    with pytest.raises(ValueError, match="3 points"):
        from_bytes(to_bytes(known), dimensions, (1.0, 1.0, 1.0), (1, 2, 3), 4)


def test_rounding_moves_a_voice_by_less_than_a_second_of_speech_does() -> None:
    known = Voices(np.stack([ANN, BOB]), (3.2, 8.0), (1, 2), 3)
    assert float((rounded(known).points * known.points).sum(axis=1).min()) > 0.95


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_call_has_no_more_labels_than_it_may_have_speakers(count: int) -> None:
    """Voices that come near each other and part again, for two minutes."""
    config = replace(CONFIG, min_speakers=count, max_speakers=count)
    near = [unit(ANN + 0.45 * voice) for voice in (ANN, BOB, CAT)]
    for seed in range(4):
        known = talk(*near, count=120, turn=2, config=config, seed=1_000 * seed)
        assert known.next_label - 1 <= count
