"""Training speech: what is said stays inside what the model is to know; shards are made once and read back as made."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.core.wer import normalise
from pipeline.demo.dialogues import Voice
from pipeline.demo.phrases import MONTHS, NAMES, vocabulary
from pipeline.demo.training import speech
from pipeline.demo.training.speech import RATE, WORDS, draw_sentence, draw_voice, load_speech, make_clip, make_speech

VERSIONS = {"espeak-ng": "1.0", "flite": "2.0"}


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the synthesizers by tones of 20 ms per letter; return what they are asked to say."""
    asked: list[str] = []

    def synthesize(text: str, voice: Voice, *, rate_hz: int) -> np.ndarray:
        asked.append(text)
        return np.full(len(text) * rate_hz // 50, 0.1, dtype=np.float32)

    monkeypatch.setattr(speech, "synthesize", synthesize)
    monkeypatch.setattr(speech, "synthesizers", lambda: dict(VERSIONS))
    return asked


def test_sentences_are_made_of_known_words_and_end_with_a_mark() -> None:
    source = random.Random(1)
    sentences = [draw_sentence(source) for _ in range(1000)]
    said = {word for sentence in sentences for word in normalise(sentence)}
    assert said <= vocabulary()
    assert len(said) > 300
    assert all(sentence[0].isupper() and sentence[-1] in ".?" and "{" not in sentence for sentence in sentences)
    assert len(set(sentences)) > 500


def test_random_word_order_uses_no_name_and_no_letter() -> None:
    assert {name.lower() for name in NAMES} & set(WORDS) == set()
    assert {month.lower() for month in MONTHS} & set(WORDS) <= {"may"}  # the verb
    assert set(WORDS) < vocabulary()
    assert min(len(word) for word in WORDS) == 2


def test_voices_stay_in_range_and_both_programs_speak() -> None:
    voices = [draw_voice(random.Random(number)) for number in range(300)]
    assert {voice.program for voice in voices} == {"espeak-ng", "flite"}
    for voice in voices:
        if voice.program == "flite":
            low, high = speech.FLITE_HERTZ[voice.name]
            assert 0.85 <= voice.rate <= 1.15
            assert low <= voice.pitch <= high
        else:
            assert 140 <= voice.rate <= 185
            assert 35 <= voice.pitch <= 65


def test_clip_holds_its_sentences_where_it_says(spoken: list[str]) -> None:
    clips = [make_clip(str(number)) for number in range(20)]
    assert [sentence.text for clip in clips for sentence in clip.sentences] == spoken
    assert {len(clip.sentences) for clip in clips} >= {1, 2, 3}
    for clip in clips:
        is_loud = np.zeros(len(clip.audio), dtype=bool)
        for sentence in clip.sentences:
            is_loud[round(sentence.start_seconds * RATE) : round(sentence.end_seconds * RATE)] = True
        differing = np.count_nonzero((clip.audio != 0) != is_loud)
        assert differing <= 16 * len(clip.sentences)  # times are rounded to milliseconds
        assert 0.19 <= np.abs(clip.audio).max() / 32768 <= 0.91
        assert all(one.end_seconds < two.start_seconds for one, two in itertools.pairwise(clip.sentences))


@pytest.mark.parametrize("error", [subprocess.CalledProcessError(1, "flite"), FileNotFoundError(), IndexError()])
def test_synthesizer_that_does_not_speak_is_named(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def synthesize(text: str, voice: Voice, *, rate_hz: int) -> np.ndarray:
        raise error

    monkeypatch.setattr(speech, "synthesize", synthesize)
    with pytest.raises(NotReadyError, match=r"^(flite|espeak-ng) does not speak in the voice [\w+-]+$"):
        make_clip("1")


def test_same_seed_same_clip(spoken: list[str]) -> None:
    first, again, other = make_clip("7/train/3"), make_clip("7/train/3"), make_clip("7/train/4")
    assert first.sentences == again.sentences != other.sentences
    assert (first.audio == again.audio).all()


def test_shards_are_read_back_and_not_made_twice(
    spoken: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "SHARD_CLIPS", 2)
    lines = list(make_speech(tmp_path, "train", 5, seed=7, threads=2))
    clips = load_speech(tmp_path, "train")
    said = sorted(spoken)
    assert len(lines) == 3
    assert "3 of 3 shards" in lines[-1]
    assert sorted(sentence.text for clip in clips for sentence in clip.sentences) == said
    for number, clip in enumerate(clips):
        whole = make_clip(f"7/train/{number}")
        assert (np.asarray(clip.audio) == whole.audio).all()
        assert clip.sentences == whole.sentences

    spoken.clear()
    (tmp_path / "train-000002.json").unlink()  # as if the run had broken off there
    list(make_speech(tmp_path, "train", 5, seed=7, threads=1))
    assert sorted(spoken) == sorted(sentence.text for clip in clips[2:4] for sentence in clip.sentences)
    assert len(load_speech(tmp_path, "train")) == 5


def test_more_clips_extend_the_set(spoken: list[str], tmp_path: Path) -> None:
    list(make_speech(tmp_path, "train", 2, seed=7, threads=1))
    list(make_speech(tmp_path, "train", 3, seed=7, threads=1))
    assert [clip.sentences for clip in load_speech(tmp_path, "train")] == [
        make_clip(f"7/train/{number}").sentences for number in range(3)
    ]


def test_sets_differ(spoken: list[str], tmp_path: Path) -> None:
    for name in ("train", "validation"):
        list(make_speech(tmp_path, name, 1, seed=7, threads=1))
    assert load_speech(tmp_path, "train")[0].sentences != load_speech(tmp_path, "validation")[0].sentences


def test_shards_of_another_origin_are_refused(spoken: list[str], tmp_path: Path) -> None:
    list(make_speech(tmp_path, "train", 1, seed=7, threads=1))
    with pytest.raises(UsageError, match=r"train-000000\.json was made from .*choose another folder"):
        list(make_speech(tmp_path, "train", 1, seed=8, threads=1))
    assert json.loads((tmp_path / "train-000000.json").read_text())["origin"]["seed"] == 7


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="'train'"):
        load_speech(tmp_path, "train")
