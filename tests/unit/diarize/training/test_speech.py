"""Speech: every voice says its share, once; what is missing is named."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.diarize.training import speech
from pipeline.diarize.training.speech import check_voices, load_speech, make_speech, say
from pipeline.diarize.training.voices import Voice
from pipeline.diarize.window import RATE

VOICES = {
    "training": (
        Voice(program="festival", name="czech_ph", seconds=30.0),
        Voice(program="espeak-ng", name="fi+Mr serious", seconds=3.0),
    ),
    "held-out": (Voice(program="flite", name="slt", seconds=2.0),),
}


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Replace the synthesizers by noise of 20 ms per letter; return (voice, text) of what they are asked to say."""
    asked: list[tuple[str, str]] = []

    def speak(text: str, voice: Voice, source: random.Random) -> np.ndarray:
        asked.append((voice.name, text))
        return np.random.default_rng(len(text)).uniform(-0.1, 0.1, max(9000, len(text) * 320)).astype(np.float32)

    monkeypatch.setattr(speech, "speak", speak)
    monkeypatch.setattr(speech, "SETS", VOICES)
    monkeypatch.setattr(speech, "check_voices", lambda voices: {voice.program: "1.0" for voice in voices})
    return asked


def test_every_voice_says_its_seconds_once(spoken: list[tuple[str, str]], tmp_path: Path) -> None:
    lines = list(make_speech(tmp_path, seed=7, threads=2))
    assert len(lines) == 3
    assert lines[-1].startswith("3 of 3 voices")
    long, short = load_speech(tmp_path, "training")
    assert len(long) >= 30 * RATE
    assert 3 * RATE <= len(short) < 13 * RATE
    assert np.abs(short).max() == 16383
    said = {text for name, text in spoken if name == "czech_ph"}
    assert all(text.count(" . ") == 7 for text in said)
    spoken.clear()
    list(make_speech(tmp_path, seed=7, threads=1))
    assert spoken == []
    with pytest.raises(UsageError, match="choose another folder"):
        list(make_speech(tmp_path, seed=8, threads=1))


def test_what_a_voice_says_depends_on_the_seed_alone(spoken: list[tuple[str, str]]) -> None:
    voice = VOICES["held-out"][0]
    assert np.array_equal(say(voice, 1), say(voice, 1))
    assert not np.array_equal(say(voice, 1), say(voice, 2))


def test_missing_speech_is_named(spoken: list[tuple[str, str]], tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"festival_czech_ph\.npz is missing"):
        load_speech(tmp_path, "training")


def test_voice_that_says_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "speak", lambda *_: np.zeros(0, dtype=np.float32))
    with pytest.raises(NotReadyError, match="flite does not speak in the voice slt"):
        say(VOICES["held-out"][0], 1)


def test_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(NotReadyError, match="festival is not installed"):
        check_voices(VOICES["training"])


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"festival": "(kal_diphone)\n"}, "festival has no voice czech_ph: install festvox-czech-ph"),
        (
            {"festival": "(czech_ph)\n", "espeak-ng": " 5 variant --/M x  !v/Storm   (en-us 5)\n"},
            "no variant Mr serious",
        ),
        ({"festival": "(a czech_ph)\n", "espeak-ng": " 5 variant --/M x  !v/Mr serious        \n"}, ""),
    ],
)
def test_missing_voice_is_named(answers: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[bytes]:
        answer = "version 1.51" if "--version" in command else answers[command[0]]
        return subprocess.CompletedProcess(command, 0, answer.encode(), b"")

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", run)
    if reason:
        with pytest.raises(NotReadyError, match=reason):
            check_voices(VOICES["training"])
    else:
        assert check_voices(VOICES["training"]) == {"festival": "1.51", "espeak-ng": "1.51"}


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_espeak_speaks() -> None:
    voice = VOICES["training"][1]
    heard = speech.speak("Thank you.", voice, random.Random(1))
    assert 0.5 < len(heard) / RATE < 3
    assert np.abs(heard).max() > 0.1
