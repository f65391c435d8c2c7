from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.diarize.clustering import (
    ClusteringConfig,
    Local,
    Voices,
    assign,
    from_bytes,
    persons,
    settled,
    to_bytes,
    unit,
)

CONFIG = ClusteringConfig(distance=0.1, distance_seconds=0.2, distance_weight_seconds=0.06)
FRAMES = 250
RANDOM = np.random.default_rng(5)
ANN, BOB, CAT = unit(np.abs(RANDOM.normal(size=(3, 256))).astype(np.float32) ** 3)


def blurred(voice: np.ndarray, amount: float, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    noise = unit(np.random.default_rng(seed).normal(size=len(voice)).astype(np.float32))
    return unit(voice + amount * noise)


def window(*speakers: tuple[np.ndarray, int, int], clean: bool = True) -> Local:  # type: ignore[type-arg]
    """Return a window of (voice, first frame, end frame) for each local speaker."""
    active = np.zeros((FRAMES, len(speakers)), dtype=bool)
    for column, (_, first, end) in enumerate(speakers):
        active[first:end, column] = True
    seconds = tuple(float((end - first) / 50) for _, first, end in speakers)
    voices = np.stack([voice for voice, _, _ in speakers]).astype(np.float32)
    return Local(active, voices, seconds, (clean,) * len(speakers), tuple(range(len(speakers))))


def known(*voices: np.ndarray, weights: tuple[float, ...]) -> Voices:  # type: ignore[type-arg]
    count = len(voices)
    return Voices(np.stack(voices), weights, tuple(range(1, count + 1)), tuple(range(count)), count + 1)


def test_the_voices_of_the_tests_are_far_apart() -> None:
    assert 1 - ANN @ BOB > 0.3 < 1 - BOB @ CAT


def test_a_first_voice_is_taken_early_and_a_second_needs_more_speech() -> None:
    voices, found = assign(Voices(), window((ANN, 0, 25)), CONFIG, step_seconds=0.5)
    assert found.speakers == (0,)
    voices, found = assign(voices, window((ANN, 0, 100), (BOB, 200, 240)), CONFIG, step_seconds=0.5)
    assert found.speakers == (0, 0), "0.8 s of a strange voice go to the nearest one"
    voices, found = assign(voices, window((ANN, 0, 100), (BOB, 110, 240)), CONFIG, step_seconds=0.5)
    assert found.speakers == (0, 1)
    assert voices.count == 2


def test_a_voice_learns_nothing_from_what_is_far_from_it() -> None:
    voices, _ = assign(Voices(), window((ANN, 0, 200)), CONFIG, step_seconds=0.5)
    after, found = assign(voices, window((BOB, 0, 60)), CONFIG, step_seconds=0.5)
    assert found.speakers == (0,)
    assert np.array_equal(after.centroids, voices.centroids)


def test_who_speaks_at_the_same_time_is_another_person() -> None:
    voices, _ = assign(Voices(), window((ANN, 0, 200)), CONFIG, step_seconds=0.5)
    voices, found = assign(voices, window((ANN, 0, 200), (blurred(ANN, 0.1, 1), 50, 200)), CONFIG, step_seconds=0.5)
    assert found.speakers == (0, 1)


def test_one_person_may_be_two_local_speakers_that_do_not_overlap() -> None:
    voices, _ = assign(Voices(), window((ANN, 0, 200)), CONFIG, step_seconds=0.5)
    _, found = assign(voices, window((ANN, 0, 100), (blurred(ANN, 0.1, 1), 120, 240)), CONFIG, step_seconds=0.5)
    assert found.speakers == (0, 0)


def test_what_others_talk_over_makes_no_new_voice() -> None:
    voices, _ = assign(Voices(), window((ANN, 0, 200)), CONFIG, step_seconds=0.5)
    voices, _ = assign(voices, window((CAT, 0, 150), clean=False), CONFIG, step_seconds=0.5)
    assert voices.count == 1


def test_no_more_speakers_than_there_may_be() -> None:
    config, voices = replace(CONFIG, max_speakers=2), Voices()
    for voice in (ANN, BOB, CAT, BOB, CAT):
        voices, found = assign(voices, window((voice, 0, 200)), config, step_seconds=0.5)
        assert found.speakers[0] in (0, 1)
    assert voices.count == 2


def test_too_little_speech_for_an_embedding_is_nobody() -> None:
    local = window((np.full(256, np.nan), 0, 10))
    voices, found = assign(Voices(), local, CONFIG, step_seconds=0.5)
    assert (found.speakers, found.trust, voices.count) == ((None,), (0.0,), 0)


def test_what_earlier_windows_said_decides_between_two_that_are_as_near() -> None:
    voices = known(ANN, BOB, weights=(30.0, 30.0))
    middle = unit(ANN + BOB * 1.01)
    earlier = np.array([[1.0, 0.0]], dtype=np.float32)
    config = replace(CONFIG, distance=0.5)
    assert assign(voices, window((middle, 0, 200)), config, step_seconds=0.5)[1].speakers == (1,)
    found = assign(voices, window((middle, 0, 200)), config, step_seconds=0.5, earlier=earlier)[1]
    assert found.speakers == (0,)


def test_a_long_call_gives_each_voice_one_label() -> None:
    voices, said = Voices(), []
    for step in range(400):
        voice = (ANN, BOB, CAT)[step // 7 % 3]
        voices, found = assign(voices, window((blurred(voice, 0.3, step), 0, 200)), CONFIG, step_seconds=0.5)
        said.append((step // 7 % 3, found.speakers[0]))
    assert sorted(set(said)) == [(0, 0), (1, 1), (2, 2)]
    assert max(voices.weights) <= CONFIG.memory_seconds


def test_voices_come_back_as_they_were_settled() -> None:
    voices = known(ANN, BOB, weights=(3.2, 8.0))
    once = settled(voices)
    data = to_bytes(once)
    assert len(data) == 512
    again = from_bytes(data, once.weights, once.labels, once.next_label)
    assert np.array_equal(again.centroids, once.centroids)
    assert (again.weights, again.labels, again.next_label) == (voices.weights, (1, 2), 3)
    assert float((once.centroids * voices.centroids).sum(axis=1).min()) > 0.999
    assert settled(Voices(next_label=4)).next_label == 4
    with pytest.raises(ValueError, match="3 voices"):
        from_bytes(data, (1.0, 1.0, 1.0), (1, 2, 3), 4)


def test_a_voice_that_has_come_near_another_is_that_one_and_its_label_is_gone() -> None:
    voices = known(ANN, blurred(ANN, 0.1, 1), BOB, weights=(9.0, 5.0, 9.0))
    voices, found = assign(voices, window((BOB, 0, 100)), CONFIG, step_seconds=0.5)
    assert voices.same_as == (0, 0, 2)
    assert found.speakers == (2,)
    kept = settled(voices)
    assert (kept.labels, kept.next_label) == ((1, 3), 4)
    voices, found = assign(kept, window((CAT, 0, 200)), CONFIG, step_seconds=0.5)
    assert voices.labels == (1, 3, 4)


def test_voices_are_not_merged_below_the_number_that_there_is() -> None:
    voices = known(ANN, blurred(ANN, 0.1, 1), weights=(9.0, 5.0))
    config = replace(CONFIG, min_speakers=2)
    assert assign(voices, window((ANN, 0, 100)), config, step_seconds=0.5)[0].same_as == (0, 1)


def test_runs_of_one_voice_are_one_person_and_others_are_not() -> None:
    runs = window(
        (ANN, 0, 60),
        (blurred(ANN, 0.3, 1), 60, 120),
        (BOB, 125, 190),
        (blurred(BOB, 0.3, 2), 190, 245),
    )
    owners = (0, 0, 0, 1)  # the segmentation model has taken the beginning of the second person for the first
    found, whose = persons(replace(runs, owners=owners), CONFIG)
    assert whose == (0, 0, 1, 1)
    assert found.seconds == pytest.approx((2.4, 2.4))


def test_a_short_run_is_its_owners() -> None:
    runs = replace(window((ANN, 0, 60), (BOB, 80, 150), (CAT, 160, 175)), owners=(0, 1, 1))
    found, whose = persons(runs, CONFIG)
    assert whose[2] == whose[1] != whose[0]
    assert len(found.seconds) == 2


def test_who_speaks_at_the_same_time_is_never_joined() -> None:
    runs = window((ANN, 0, 100), (blurred(ANN, 0.1, 1), 40, 100))
    assert persons(runs, CONFIG)[1] == (0, 1)


def test_a_state_has_room_for_so_many_voices_of_a_large_model() -> None:
    voices = Voices()
    for number in range(10):
        voice = np.zeros(1024, dtype=np.float32)
        voice[number] = 1.0
        voices, _ = assign(voices, window((voice, 0, 200)), replace(CONFIG, max_speakers=20), step_seconds=0.5)
    assert voices.count == 2
    assert len(to_bytes(voices)) <= 3_000
