"""Voices: those of the benchmark calls are not trained on; the shipped list is what is installed or named."""

from __future__ import annotations

from pipeline.bench.make_calls import VOICES
from pipeline.diarize.training.voices import BENCHMARK_SPEAKERS, FESTIVAL_PACKAGES, HELD_OUT, SETS, TRAINING


def test_voices_of_the_benchmark_are_held_out() -> None:
    measured = {(program, name) for program, name, _ in VOICES}
    assert {(voice.program, voice.name) for voice in HELD_OUT} == measured
    assert not {(voice.program, voice.name) for voice in TRAINING} & measured


def test_nor_are_its_speakers_trained_on_in_another_program() -> None:
    names = [voice.name for voice in TRAINING if voice.program != "espeak-ng"]
    assert not [name for name in names if name.startswith(BENCHMARK_SPEAKERS)]
    assert "flite" not in {voice.program for voice in TRAINING}


def test_no_voice_is_there_twice() -> None:
    for voices in SETS.values():
        assert len({voice.file_name for voice in voices}) == len(voices)
    assert len(TRAINING) == 75
    assert {voice.name for voice in TRAINING if voice.program == "festival"} == set(FESTIVAL_PACKAGES)


def test_recorded_voices_are_drawn_often_enough_to_matter() -> None:
    recorded = sum(voice.share for voice in TRAINING if voice.program == "festival")
    assert 0.4 < recorded / sum(voice.share for voice in TRAINING) < 0.6
