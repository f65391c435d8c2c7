"""Examples: what is heard and what is to be written go together, whatever is done to a clip."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pipeline.demo.training import augment
from pipeline.demo.training.augment import (
    degrade,
    draw_example,
    draw_no_speech,
    end_earlier,
    join,
    start_later,
    telephone,
    tones,
    truncate,
)
from pipeline.demo.training.speech import RATE, Clip, Sentence

LEVELS = {"One two.": 1000, "Three four five.": 2000, "Six?": 3000}  # of the audio under each sentence


def clip_of(*texts: str) -> Clip:
    """Return a clip with half a second of silence and one second at its own level per sentence."""
    audio = np.concatenate([np.r_[np.zeros(RATE // 2), np.full(RATE, LEVELS[text])] for text in texts])
    sentences = [Sentence(text, 1.5 * number + 0.5, 1.5 * number + 1.5) for number, text in enumerate(texts)]
    return Clip(audio.astype(np.int16), tuple(sentences))


def check_places(clip: Clip) -> None:
    """Assert that every sentence stands where its audio is."""
    for sentence in clip.sentences:
        inside = clip.audio[round(sentence.start_seconds * RATE) : round(sentence.end_seconds * RATE)]
        assert len(inside) == RATE
        assert set(inside.tolist()) == {LEVELS[sentence.text]}


def test_joined_clips_keep_their_places() -> None:
    joined = join([clip_of("One two."), clip_of("Six?", "Three four five.")], random.Random(1))
    assert [one.text for one in joined.sentences] == ["One two.", "Six?", "Three four five."]
    assert 4.5 <= joined.seconds <= 4.5 + 0.8
    check_places(joined)


def test_what_would_be_too_long_is_not_joined() -> None:
    joined = join([clip_of("One two.")] * 40, random.Random(1))
    assert 20 < joined.seconds <= augment.MAX_SECONDS + augment.JOIN_GAP_SECONDS[1]
    check_places(joined)


@pytest.mark.parametrize("seed", range(5))
def test_start_later_gives_the_text_before_as_prompt(seed: int) -> None:
    clip = clip_of("One two.", "Three four five.", "Six?")
    rest, prompt = start_later(clip, random.Random(seed))
    assert f"{prompt} {' '.join(one.text for one in rest.sentences)}" == "One two. Three four five. Six?"
    assert rest.sentences[0].start_seconds <= 0.1
    check_places(rest)


def test_end_earlier_leaves_no_sound_of_the_last_sentence() -> None:
    rest = end_earlier(clip_of("One two.", "Six?"))
    assert [one.text for one in rest.sentences] == ["One two."]
    assert rest.seconds == pytest.approx(1.8)
    assert LEVELS["Six?"] not in rest.audio
    check_places(rest)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, ""),
        (0.98, ""),  # "One" ends at 0.944 s, too close to the cut
        (0.99, "One"),
        (1.53, "One"),
        (1.55, "One two."),
        (2.4, "One two. Three"),
        (9.9, "One two. Three four five."),
    ],
)
def test_truncated_text_holds_the_words_that_are_whole(seconds: float, text: str) -> None:
    cut = truncate(clip_of("One two.", "Three four five."), seconds)
    assert " ".join(one.text for one in cut.sentences) == text
    assert cut.seconds == pytest.approx(min(3.0, seconds), abs=1e-4)


def test_telephone_keeps_length_and_what_a_line_can_carry() -> None:
    low, high = tones((440,), 1.0, level=0.3), tones((6000,), 1.0, level=0.3)
    assert len(telephone(low[:-1])) == len(low) - 1
    heard = telephone(low + high)
    assert len(heard) == len(low)
    assert np.sqrt(np.mean((heard - low) ** 2)) < 0.01 * np.sqrt(np.mean(high**2)) + 0.005
    assert len(np.unique(telephone(low)[::2])) <= 256


def test_degraded_audio_is_of_the_same_length_and_repeatable() -> None:
    audio = tones((440,), 0.5, level=0.3)
    results = [degrade(audio, random.Random(seed)) for seed in range(20)]
    assert {len(one) for one in results} == {len(audio)}
    assert {one.dtype for one in results} == {np.dtype(np.float32)}
    assert any((one == audio).all() for one in results)
    assert (degrade(audio, random.Random(3)) == results[3]).all()


def test_no_speech_is_of_every_kind_and_bounded() -> None:
    sounds = [draw_no_speech(random.Random(seed)) for seed in range(30)]
    assert all(0.9 <= len(one) / RATE <= 13.6 and one.dtype == np.float32 for one in sounds)
    silent = [one for one in sounds if not one.any()]
    assert 3 <= len(silent) <= 18
    assert max(np.abs(one).max() for one in sounds) < 1.5


def test_examples_are_drawn_in_every_form_and_fit_their_audio() -> None:
    clips = [clip_of("One two.", "Three four five."), clip_of("Six?")]
    examples = [draw_example(clips, random.Random(seed)) for seed in range(150)]
    for one in examples:
        assert one.audio.dtype == np.float32
        assert one.is_speech or not (one.sentences or one.prompt)
        assert all(sentence.start_seconds <= len(one.audio) / RATE for sentence in one.sentences)
    assert 1 <= sum(not one.is_speech for one in examples) <= 20
    assert any(one.prompt for one in examples)
    assert any(one.has_timestamps for one in examples)
    assert {one.text for one in examples} >= {"", "One", "One two. Three four five. Six?", "Three four five. Six?"}
    again = draw_example(clips, random.Random(11))
    assert again.text == examples[11].text
    assert (again.audio == examples[11].audio).all()
