"""Conversations: the same numbers make the same one, and who is said to speak is heard."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.diarize.training.acoustics import WINDOW_FRAMES, WINDOW_SAMPLES, on_a_line
from pipeline.diarize.training.mixtures import (
    LEAST_DIFFERENCE,
    Conversation,
    Speaker,
    Voices,
    babble,
    draw_mixture,
    draw_speakers,
    speech_of,
)
from pipeline.diarize.window import FRAME, RATE


def energies(samples: np.ndarray) -> np.ndarray:
    return (samples.reshape(-1, FRAME).astype(np.float64) ** 2).mean(axis=1)


def test_same_numbers_same_window(voices: Voices) -> None:
    first, again, other = (draw_mixture(voices, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.samples.dtype == np.int16
    assert first.samples.shape == (WINDOW_SAMPLES,)
    assert first.active.shape == (WINDOW_FRAMES, 3)
    assert np.array_equal(first.samples, again.samples)
    assert np.array_equal(first.active, again.active)
    assert not np.array_equal(first.samples, other.samples)


def test_a_speaker_is_heard_where_the_labels_say(voices: Voices) -> None:
    source = np.random.default_rng(1)
    conversation = Conversation(draw_speakers(voices, source, 1), source, 200)
    conversation.hold()
    samples, active = conversation.window()
    speaks, power = active[:, 0], energies(samples)
    assert 0.3 < speaks.mean() < 0.98
    assert not active[:, 1:].any()
    assert np.median(power[speaks]) > 1e-4
    assert power[~speaks].sum() < 0.01 * power[speaks].sum()


def test_overlap_is_where_two_speak(voices: Voices) -> None:
    source = np.random.default_rng(8)
    conversation = Conversation(draw_speakers(voices, source, 2), source, 200)
    conversation.hold()
    samples, active = conversation.window()
    silent = ~active.any(axis=1)
    assert active[:, :2].any(axis=0).all()
    power = energies(samples)
    assert power[silent].sum() < 0.01 * power.sum()  # the last frame of an utterance is not whole


def test_shares_of_speech_speakers_and_overlap(voices: Voices) -> None:
    active = np.stack([draw_mixture(voices, np.random.default_rng([9, number])).active for number in range(40)])
    speaking, together = active.any(axis=2), active.sum(axis=2) > 1
    assert 0.6 < speaking.mean() < 0.95
    assert 0.08 < together.sum() / speaking.sum() < 0.3
    speakers = np.bincount(active.any(axis=1).sum(axis=1), minlength=4) / len(active)
    assert speakers[2] > 0.4
    assert speakers[0] < 0.15
    assert speakers[3] > 0.02


def test_speakers_of_one_voice_differ_in_speed(voices: Voices) -> None:
    alike = 0
    for seed in range(60):
        first, second = draw_speakers(voices, np.random.default_rng(seed), 2)
        if first.voice == second.voice and abs(np.log(first.speed / second.speed)) >= LEAST_DIFFERENCE:
            alike += 1
    assert alike >= 5


def test_what_a_window_holds_does_not_depend_on_what_is_outside(voices: Voices) -> None:
    source = np.random.default_rng(4)
    speakers = draw_speakers(voices, source, 2)
    conversation = Conversation(speakers, source, 100)
    conversation.hold()
    samples, active = conversation.window()
    assert (samples.shape, active.shape) == ((WINDOW_SAMPLES,), (WINDOW_FRAMES, 3))
    assert active.any()


def test_babble_is_of_a_drawn_level(voices: Voices) -> None:
    heard = [babble(voices, np.random.default_rng(seed)) for seed in range(3)]
    levels = [20 * np.log10(np.sqrt((one**2).mean())) for one in heard]
    assert all(-53 < level < -31 for level in levels)
    assert len({round(level, 3) for level in levels}) == 3


def test_a_speaker_says_no_more_than_there_is(voices: Voices) -> None:
    short = Voices(speech=[voices.speech[0][:8000]], shares=np.ones(1))
    assert 0.35 * RATE < len(Speaker(short, np.random.default_rng(1)).say(3.0)) < 0.65 * RATE


def test_short_pauses_are_speech_and_long_ones_are_not() -> None:
    loud, faint = np.full(FRAME * 5, 0.1, dtype=np.float32), np.full(FRAME, 0.001, dtype=np.float32)
    heard = speech_of(np.concatenate([loud, *[faint] * 9, loud, *[faint] * 10, loud, faint[:5]]))
    assert heard.tolist() == [True] * 19 + [False] * 10 + [True] * 5
    assert not speech_of(np.zeros(FRAME * 3, dtype=np.float32)).any()


def test_a_line_keeps_the_place_of_what_is_heard() -> None:
    samples = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
    samples[40_000:44_000] = np.sin(np.arange(4_000) * 0.3) * 0.3
    gaps = 0
    for seed in range(60):
        heard, silenced = on_a_line(samples, np.random.default_rng(seed))
        assert heard.dtype == np.int16
        assert len(heard) == WINDOW_SAMPLES
        assert not heard[: silenced * FRAME].any()
        gaps += silenced > 0
        assert 125 <= np.argmax(energies(heard)) < 138  # frames
    assert 1 <= gaps <= 15


def test_nobody_is_not_always_silence() -> None:
    samples = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
    loudest = [
        np.abs(on_a_line(samples, np.random.default_rng(seed), is_empty=True)[0]).max() / 32768 for seed in range(30)
    ]
    assert min(loudest) < 0.001
    assert np.mean(np.array(loudest) > 0.005) == pytest.approx(0.6, abs=0.35)
