from __future__ import annotations

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from pipeline.asr.sounds import loudness, no_speech_in
from pipeline.demo import assets

RATE = 16_000


def silence(seconds: float = 2.0) -> NDArray[np.int16]:
    return np.zeros(round(seconds * RATE), dtype=np.int16)


def sine(*hertz: float, seconds: float = 2.0, level: float = 3_000.0) -> NDArray[np.int16]:
    time = np.arange(round(seconds * RATE)) / RATE
    return (sum(np.sin(2 * np.pi * f * time) for f in hertz) * level / len(hertz)).astype(np.int16)


def dtmf(digits: int = 8) -> NDArray[np.int16]:
    """Return keypad tones of 100 ms with pauses of 100 ms."""
    rows, columns = (697, 770, 852, 941), (1209, 1336, 1477)
    tones = [sine(rows[i % 4], columns[i % 3], seconds=0.1) for i in range(digits)]
    return np.concatenate([part for tone in tones for part in (tone, silence(0.1))])


def white_noise(seconds: float = 2.0, level: float = 1_000.0) -> NDArray[np.int16]:
    return (np.random.RandomState(1).standard_normal(round(seconds * RATE)) * level).astype(np.int16)


def babble(seconds: float) -> NDArray[np.int16]:
    """Return shipped speech: the first sentences of a call, repeated."""
    audio, rate = soundfile.read(assets.calls()[0].path, dtype="int16", frames=5 * 8_000)
    speech = soxr.resample(audio[5_000:, 0], rate, RATE)
    return np.resize(speech, round(seconds * RATE)).astype(np.int16)


def chord(seconds: float = 3.0) -> NDArray[np.int16]:
    return sine(262, 330, 392, seconds=seconds)


@pytest.mark.parametrize("audio", [sine(440, 480), sine(1_004), dtmf(), chord(), sine(425, level=300)])
def test_tones(audio: NDArray[np.int16]) -> None:
    assert no_speech_in(audio) == "tone"


@pytest.mark.parametrize("level", [100.0, 1_000.0, 6_000.0])
def test_noise(level: float) -> None:
    assert no_speech_in(white_noise(level=level)) == "noise"


def test_speech_is_neither_nor_silence() -> None:
    """Every stretch of a second or two of every shipped call, noise on the line included."""
    judged = 0
    for call in assets.calls():
        audio, rate = soundfile.read(call.path, dtype="int16")
        for utterance in call.utterances:
            span = audio[int(utterance.start_seconds * rate) : int(utterance.end_seconds * rate), utterance.channel]
            speech = soxr.resample(span, rate, RATE)
            for seconds in (1.0, 2.0):
                for start in range(0, len(speech) - round(seconds * RATE), RATE // 2):
                    assert no_speech_in(speech[start : start + round(seconds * RATE)]) is None
                    judged += 1
    assert judged >= 300
    assert no_speech_in(silence()) is None


def test_short_stretches_are_not_judged() -> None:
    assert no_speech_in(sine(440, seconds=0.3)) is None
    assert no_speech_in(sine(440, seconds=0.0)) is None


def test_loudness_is_that_of_every_frame() -> None:
    levels = loudness(np.concatenate([silence(0.1), sine(1_000, seconds=0.1)]))
    assert len(levels) == 10
    assert levels[:5].max() == 0
    assert levels[5:] == pytest.approx(np.full(5, 3_000 / np.sqrt(2)), rel=0.01)
