from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.bench.audio import RATE, channels_of
from pipeline.bench.offline import OfflineModel, offline_model
from pipeline.bench.recordings import Recording, recordings
from pipeline.bench.word_ends import TrueWord, true_words
from pipeline.core.wer import normalise
from pipeline.demo import assets
from pipeline.runtime.settings import AsrSettings

FIRST = 3  # utterances of the agent


@pytest.fixture(scope="module")
def model() -> OfflineModel:
    return offline_model(AsrSettings())


@pytest.fixture(scope="module")
def recording() -> Recording:
    """The shipped call with what the agent says first as its reference."""
    whole = next(one for one in recordings(assets.CALLS) if one.name == "billing")
    return replace(whole, references={0: whole.references[0][:FIRST]})


@pytest.fixture(scope="module")
def words(recording: Recording) -> tuple[TrueWord, ...]:
    return true_words(recording)


def test_every_word_of_the_reference_has_its_time(recording: Recording, words: tuple[TrueWord, ...]) -> None:
    assert [word.text for word in words] == recording.text(0).split()
    assert all(word.start_seconds < word.end_seconds for word in words)
    assert all(before.end_seconds <= after.start_seconds for before, after in pairwise(words))


def test_words_lie_within_their_utterance_and_fill_it(recording: Recording, words: tuple[TrueWord, ...]) -> None:
    for utterance in recording.references[0]:
        assert utterance.start_seconds is not None
        assert utterance.end_seconds is not None
        own = [word for word in words if utterance.start_seconds <= word.start_seconds < utterance.end_seconds]
        assert [word.text for word in own] == utterance.text.split()
        assert own[-1].end_seconds == pytest.approx(utterance.end_seconds, abs=0.1)


def test_a_reference_without_times_gives_no_words(recording: Recording) -> None:
    untimed = tuple(replace(one, start_seconds=None, end_seconds=None) for one in recording.references[0])
    assert true_words(replace(recording, references={0: untimed})) == ()


def test_an_utterance_that_is_too_long_for_one_window_is_left_out(recording: Recording) -> None:
    first, *rest = recording.references[0]
    stretched = replace(recording, references={0: (*rest, replace(first, start_seconds=20.0, end_seconds=60.0))})
    assert [word.text for word in true_words(stretched)] == " ".join(one.text for one in rest).split()


def test_offline_decoding_hears_the_sentence(recording: Recording, model: OfflineModel) -> None:
    sentence = recording.references[0][0]
    assert sentence.end_seconds is not None
    audio = channels_of(recording.path)[0][: round(sentence.end_seconds * RATE)]
    assert normalise(model.decode(audio.astype(np.float32) / 32768.0)) == normalise(sentence.text)


def test_alignment_of_nothing_is_nothing(model: OfflineModel) -> None:
    assert model.align(np.zeros(RATE, dtype=np.float32), " ") == ()
    assert model.align(np.zeros(10, dtype=np.float32), "hello") == ()
    assert model.align(np.zeros(31 * RATE, dtype=np.float32), "hello") == ()


def test_a_word_ends_before_its_punctuation_and_the_last_one_with_the_text(model: OfflineModel) -> None:
    words = model.align(np.zeros(2 * RATE, dtype=np.float32), "Hello, you - there.")
    assert [word.text for word in words] == ["Hello,", "you", "-", "there."]
    assert all(before.end_seconds <= after.start_seconds for before, after in pairwise(words))


@pytest.mark.parametrize(("subtype", "rate"), [("ULAW", 8_000), ("ALAW", 8_000), ("PCM_16", 16_000)])
def test_channels_are_those_of_the_file_at_16_khz(tmp_path: Path, subtype: str, rate: int) -> None:
    tone = (8000 * np.sin(np.arange(rate) * 0.1)).astype(np.int16)
    path = tmp_path / "two.wav"
    soundfile.write(path, np.stack([tone, np.zeros_like(tone)], axis=1), rate, subtype=subtype)
    first, second = channels_of(path)
    assert first.dtype == np.int16
    assert len(first) == len(second) == RATE
    assert not second[np.abs(second) > 16].any()
    assert np.abs(first[:: RATE // rate].astype(int) - tone).max() < 300  # the steps of G.711 at this level
