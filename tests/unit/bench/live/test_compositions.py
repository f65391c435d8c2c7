from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.bench.live.compositions import PAUSE_SECONDS, compose, mixed, mulaw_channels
from pipeline.bench.recordings import Recording, recordings
from pipeline.core.errors import UsageError
from tests.unit.bench.live.calls import RATE, recording, words_of

Recordings = tuple[Recording, ...]


@pytest.fixture
def three(tmp_path: Path) -> Recordings:
    """Three recordings of 4, 5 and 6 seconds, half of each spoken."""
    return tuple(
        recording(
            name,
            tmp_path,
            seconds=seconds,
            spoken={
                0: [(0.5, 0.5 + seconds / 4, f"{name} one two")],
                1: [(seconds / 2, 0.75 * seconds, f"{name} three")],
            },
        )
        for name, seconds in (("a", 4.0), ("b", 5.0), ("c", 6.0))
    )


def test_a_two_channel_call_is_whole_recordings_in_turn(three: Recordings, tmp_path: Path) -> None:
    call = compose(three, count=3, length_seconds=12.0, is_mono=False)[1]
    assert call.roles == {0: "agent", 1: "customer"}
    call.write(tmp_path / "call.wav")
    written, rate = soundfile.read(tmp_path / "call.wav", dtype="int16")
    sources = [soundfile.read(one.path, dtype="int16")[0] for one in (three[1], three[2], three[0])]
    assert rate == RATE
    assert np.array_equal(written, np.concatenate(sources)[: 12 * RATE])


def test_calls_begin_with_different_recordings(three: Recordings) -> None:
    firsts = [one.pieces[0].recording.name for one in compose(three, count=3, length_seconds=1.0, is_mono=False)]
    assert firsts == ["a", "b", "c"]


def test_words_are_moved_and_those_cut_off_left_out(three: Recordings) -> None:
    call = compose(three, count=1, length_seconds=7.0, is_mono=False)[0]  # all of a, three seconds of b
    words = call.words({one.name: words_of(one) for one in three})
    assert [(word.channel, word.text) for word in words] == [
        (0, "a"),
        (0, "one"),
        (0, "two"),
        (0, "b"),
        (0, "one"),
        (0, "two"),
        (1, "a"),
        (1, "three"),
    ]
    assert [word.end_seconds for word in words if word.text == "two"] == [1.5, 5.75]


def test_the_share_of_speech_is_of_the_part_that_is_played(three: Recordings) -> None:
    assert compose(three, count=1, length_seconds=4.0, is_mono=False)[0].speech_share == pytest.approx(0.5)
    assert compose(three, count=1, length_seconds=1.0, is_mono=False)[0].speech_share == pytest.approx(0.5)


def test_a_mono_call_has_no_long_pause(three: Recordings, tmp_path: Path) -> None:
    call = compose(three, count=1, length_seconds=10.0, is_mono=True)[0]
    assert call.roles == {0: "agent"}
    words = call.words({one.name: words_of(one) for one in three})
    pauses = [later.start_seconds - word.end_seconds for word, later in itertools.pairwise(words)]
    assert max(pauses) <= PAUSE_SECONDS + 1e-6
    assert {word.text for word in words} >= {"a", "b", "three"}
    assert call.speech_share > 0.65
    call.write(tmp_path / "mono.wav")
    assert soundfile.read(tmp_path / "mono.wav", always_2d=True)[0].shape == (10 * RATE, 1)


@pytest.mark.parametrize("is_mono", [False, True])
@pytest.mark.parametrize("length_seconds", [0.3, 3.7, 40.0])
def test_pieces_cover_a_call_without_holes(three: Recordings, is_mono: bool, length_seconds: float) -> None:
    for call in compose(three, count=3, length_seconds=length_seconds, is_mono=is_mono):
        for channel in call.roles:
            end = 0
            for piece in (piece for piece in call.pieces if piece.channel == channel):
                assert piece.at == end
                assert 0 <= piece.start < piece.end <= len(mulaw_channels(piece.recording.path)[piece.source_channel])
                end += piece.end - piece.start
            assert end == call.length_samples == round(length_seconds * RATE)


def test_what_cannot_be_strung_together_is_refused(three: Recordings, tmp_path: Path) -> None:
    wide = recording("wide", tmp_path, seconds=1.0, rate=16_000, spoken={0: [], 1: []})
    single = recording("single", tmp_path, seconds=1.0, spoken={0: [(0.0, 1.0, "one")]})
    silent = recording("silent", tmp_path, seconds=1.0, spoken={0: [], 1: []})
    for found, count, is_mono, reason in (
        (three, 4, False, "4 different calls"),
        ((wide,), 1, False, "16000 Hz"),
        ((single,), 1, False, r"1 channel\(s\)"),
        ((silent,), 1, True, "no times"),
    ):
        with pytest.raises(UsageError, match=reason):
            compose(found, count=count, length_seconds=1.0, is_mono=is_mono)


def test_the_shipped_recordings_give_the_load_that_is_asked_for() -> None:
    calls = compose(mixed(recordings()), count=10, length_seconds=241.0, is_mono=False)
    assert all(0.65 <= call.speech_share <= 0.75 for call in calls)
    assert len({call.pieces[0].recording.name for call in calls}) == 10
    assert all({piece.recording.kind for piece in call.pieces} == {"plain", "hard"} for call in calls)


def test_kinds_are_mixed_evenly(three: Recordings) -> None:
    kinds = (("h", "hard"), ("i", "hard"), ("p", "plain"), ("q", "plain"), ("r", "plain"), ("s", "plain"))
    found = mixed([replace(three[0], name=name, kind=kind) for name, kind in kinds])
    assert "".join(one.name for one in found) == "phqris"
    assert mixed(three) == three
