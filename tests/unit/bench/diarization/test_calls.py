"""What the shipped calls promise."""

from __future__ import annotations

import json
import shutil
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.bench.audio import channels_of
from pipeline.bench.diarization import make_calls
from pipeline.bench.diarization.figures import overlap_share
from pipeline.bench.diarization.music import hold_music
from pipeline.bench.diarization.recordings import CALLS, Recording, recordings
from pipeline.bench.diarization.scripts import STYLES
from pipeline.bench.diarization.spans import Span, covered, merged, seconds_of, within, without
from pipeline.demo.make_calls import RATE, Placed, synthesizers
from pipeline.ingest.decode import open_audio

FOUND = {recording.name: recording for recording in recordings()}
TWO = [f"two-{number:02}" for number in range(1, 11)]
SPECIAL = ["three-01", "one-01", "hold-01", "music-01", "same-01", "same-02", "mulaw-01"]
OVERLAPPING = [*TWO, "three-01", "same-01", "same-02"]


def document_of(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(FOUND[name].path.with_suffix(".json").read_text())
    return document


def voices_of(name: str) -> tuple[str, ...]:
    return tuple(speaker["voice"] for speaker in document_of(name)["speakers"])


@cache
def samples_of(name: str) -> NDArray[np.int16]:
    return channels_of(FOUND[name].path)[0]


def seconds(name: str) -> float:
    return len(samples_of(name)) / 16_000


def turns_of(name: str) -> dict[int, list[dict[str, Any]]]:
    turns: dict[int, list[dict[str, Any]]] = {}
    for utterance in document_of(name)["utterances"]:
        turns.setdefault(utterance["turn"], []).append(utterance)
    return turns


def lengths(name: str) -> list[float]:
    return [
        max(one["end_seconds"] for one in turn) - min(one["start_seconds"] for one in turn)
        for turn in turns_of(name).values()
    ]


def test_there_are_ten_calls_of_two_and_seven_special_ones_in_eight_megabytes() -> None:
    assert set(FOUND) == {*TWO, *SPECIAL}
    assert {path.suffix for path in CALLS.iterdir()} == {".opus", ".wav", ".rttm", ".json"}
    assert sum(path.stat().st_size for path in CALLS.iterdir()) <= 8e6
    assert set(STYLES) == {name.rpartition("-")[0] for name in FOUND}


@pytest.mark.parametrize("name", [*TWO, *SPECIAL])
def test_length_channels_and_references(name: str) -> None:
    low, high = (180, 210) if name in TWO else (60, 180)
    document, recording = document_of(name), FOUND[name]
    assert low <= seconds(name) <= high
    assert document["duration_seconds"] == pytest.approx(seconds(name), abs=0.05)
    with open_audio(recording.path) as source:
        assert source.channels == 1
        assert source.encoding == ("mulaw" if name == "mulaw-01" else "pcm_s16le")
    assert {turn.file for turn in recording.turns} == {name}
    assert all(turn.end_seconds < seconds(name) for turn in recording.turns)
    assert set(recording.speech) == {speaker["speaker"] for speaker in document["speakers"]}
    assert recording.words
    assert document["kind"] == name.rpartition("-")[0]


@pytest.mark.parametrize("name", OVERLAPPING)
def test_a_tenth_of_the_speech_overlaps(name: str) -> None:
    share = overlap_share(FOUND[name].speech)
    assert share is not None
    assert 0.09 <= share <= 0.11
    assert document_of(name)["overlap_share"] == pytest.approx(share, abs=0.001)


@pytest.mark.parametrize("name", [*TWO, *SPECIAL])
def test_turns_are_of_half_a_second_to_ten(name: str) -> None:
    assert min(lengths(name)) >= 0.5
    assert max(lengths(name)) <= 10.0
    if name in TWO:
        assert sum(length < 1.2 for length in lengths(name)) >= 5  # "Yes.", "Okay."
        assert sum(length > 5.0 for length in lengths(name)) >= 5


@pytest.mark.parametrize("name", [*TWO, *SPECIAL])
def test_no_sentence_twice(name: str) -> None:
    sentences: dict[int, str] = {}
    for one in document_of(name)["utterances"]:
        sentences[one["sentence"]] = f"{sentences.get(one['sentence'], '')} {one['text']}".strip().lower()
    assert len(set(sentences.values())) == len(sentences) > 20


@pytest.mark.parametrize("name", TWO)
def test_where_nobody_speaks_between_two_turns_it_is_a_second_at_most(name: str) -> None:
    anybody = covered(list(FOUND[name].speech.values()), at_least=1)
    assert max(start - end for (_, end), (start, _) in pairwise(anybody)) <= 1.2 + 0.1


def test_voices_differ_from_call_to_call() -> None:
    pairs = [frozenset(voices_of(name)) for name in TWO]
    assert all(len(pair) == 2 for pair in pairs)
    assert len(set(pairs)) == len(TWO)
    assert {voice for pair in pairs for voice in pair} == {voice for _, voice, _ in make_calls.VOICES}
    assert voices_of("same-01") == ("rms", "awb")
    assert voices_of("same-02") == ("slt", "en-us+f2")
    assert len(set(voices_of("three-01"))) == 3


def test_noise_and_levels_vary() -> None:
    noises = {document_of(name)["noise_dbfs"] for name in TWO}
    assert None in noises
    told = [noise for noise in noises if noise is not None]
    assert max(told) - min(told) > 10
    differences = [
        abs(first["level_dbfs"] - second["level_dbfs"])
        for name in TWO
        for first, second in combinations(document_of(name)["speakers"], 2)
    ]
    assert max(differences) <= 6.0 + 0.1
    assert max(differences) > 3.0


@pytest.mark.parametrize("name", ["two-01", "same-01", "mulaw-01", "one-01"])
def test_the_reference_is_where_the_sound_is(name: str) -> None:
    samples = samples_of(name).astype(np.float64)
    windows = np.abs(samples[: len(samples) // 160 * 160].reshape(-1, 160)).max(axis=1)  # 10 ms
    anybody = covered(list(FOUND[name].speech.values()), at_least=1)
    speaks = np.zeros(len(windows), dtype=bool)
    near = np.zeros(len(windows), dtype=bool)
    for start, end in anybody:
        speaks[round(start * 100) : round(end * 100)] = True
        near[max(0, round(start * 100) - 4) : round(end * 100) + 4] = True
    assert windows[~near].max() < np.percentile(windows[speaks], 75) / 3
    for start, _ in anybody:  # something begins at every boundary
        assert windows[round(start * 100) : round(start * 100) + 15].max() > np.median(windows[~near])


def silent_middle(recording: Recording, event: Span) -> bool:
    return not any(within(spans, event) for spans in recording.speech.values())


def test_the_hold_is_silence_and_comfort_noise_and_the_music_is_loud() -> None:
    for name, kind, least in (("hold-01", "hold", 10.0), ("music-01", "music", 20.0)):
        (event,) = document_of(name)["events"]
        start, end = event["start_seconds"], event["end_seconds"]
        assert event["kind"] == kind
        assert end - start >= least
        assert seconds(name) / 4 < start < end < seconds(name) * 3 / 4
        assert silent_middle(FOUND[name], (start, end))
        samples = samples_of(name) / 32768.0
        inside = samples[round((start + 0.5) * 16_000) : round((end - 0.5) * 16_000)]
        half = len(inside) // 2 - 8_000
        if kind == "hold":
            assert np.abs(inside[:half]).max() < 0.002
            assert 0 < np.sqrt(np.mean(inside[-half:] ** 2)) < 0.003
        else:
            assert np.sqrt(np.mean(inside**2)) > 0.03


def test_hold_music_has_the_level_asked_for() -> None:
    music = hold_music(20.0, RATE, level_dbfs=-23.0, seed=1)
    assert 20 * np.log10(np.sqrt(np.mean(music.astype(np.float64) ** 2))) == pytest.approx(-23.0, abs=0.01)
    assert np.abs(music).max() < 0.95
    assert music[0] == 0.0
    np.testing.assert_array_equal(music, hold_music(20.0, RATE, level_dbfs=-23.0, seed=1))


def test_speech_is_where_the_audio_is_loud_and_long_pauses_are_none() -> None:
    audio = np.zeros(RATE, dtype=np.float32)
    audio[800:1600] = audio[2400:3200] = audio[6000:6400] = 0.1  # 0.1 s and 0.35 s of pause
    piece = make_calls.Spoken(Placed(0, RATE, audio, "One."), 0, 0)
    call = make_calls.Call(name="two-01", voices=(), spoken=[piece], events=[])
    assert call.spans(0) == ((1.1, 1.4), (1.75, 1.8))
    assert merged(piece.spans) == call.spans(0)
    assert seconds_of(without(piece.spans, [(1.0, 1.75)])) == pytest.approx(0.05)


def test_a_call_outside_the_limits_is_refused() -> None:
    call = make_calls.Call(name="two-01", voices=(), spoken=[], events=[], end=100 * RATE)
    with pytest.raises(ValueError, match=r"two-01: 101\.0 s is not within"):
        make_calls._check_limits(call, STYLES["two"])
    call.end = 190 * RATE
    with pytest.raises(ValueError, match="overlap in 0"):
        make_calls._check_limits(call, STYLES["two"])


@pytest.mark.skipif(
    shutil.which("espeak-ng") is None or shutil.which("flite") is None,
    reason="needs the synthesizers espeak-ng and flite",
)
@pytest.mark.parametrize("name", ["hold-01", "mulaw-01"])
def test_making_a_call_again_gives_the_same_files(tmp_path: Path, name: str) -> None:
    expected = document_of(name)
    if (versions := synthesizers()) != expected["synthesizers"]:
        pytest.skip(f"the shipped calls come from {expected['synthesizers']}, here are {versions}")
    assert make_calls.make_call(name, seed=make_calls.SEED, out=tmp_path, versions=versions) == expected
    assert (tmp_path / f"{name}.rttm").read_text() == (CALLS / f"{name}.rttm").read_text()
    (made,) = recordings(tmp_path)
    if name == "mulaw-01":
        np.testing.assert_array_equal(soundfile.read(made.path)[0], soundfile.read(FOUND[name].path)[0])
    else:
        found, shipped = channels_of(made.path)[0] / 32768.0, samples_of(name) / 32768.0
        np.testing.assert_allclose(found, shipped, atol=0.02)  # another libopus may round otherwise
