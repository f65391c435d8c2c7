from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.bench.live.compositions import PAUSE_SECONDS, Load, compose, interleaved, mulaw_channels
from pipeline.bench.recordings import Recording, recordings
from pipeline.core.errors import UsageError
from pipeline.core.g711 import decode, encode
from pipeline.core.speakers import MIXED
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
    call = compose(three, count=3, length_seconds=12.0, load="two_channel")[1]
    assert call.roles == {0: "agent", 1: "customer"}
    call.write(tmp_path / "call.wav")
    written, rate = soundfile.read(tmp_path / "call.wav", dtype="int16")
    sources = [soundfile.read(one.path, dtype="int16")[0] for one in (three[1], three[2], three[0])]
    assert rate == RATE
    assert np.array_equal(written, np.concatenate(sources)[: 12 * RATE])


def test_calls_begin_with_different_recordings(three: Recordings) -> None:
    firsts = [one.pieces[0].recording.name for one in compose(three, count=3, length_seconds=1.0, load="two_channel")]
    assert firsts == ["a", "b", "c"]


def test_words_are_moved_and_those_cut_off_left_out(three: Recordings) -> None:
    call = compose(three, count=1, length_seconds=7.0, load="two_channel")[0]  # all of a, three seconds of b
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
    assert compose(three, count=1, length_seconds=4.0, load="two_channel")[0].speech_share == pytest.approx(0.5)
    assert compose(three, count=1, length_seconds=1.0, load="two_channel")[0].speech_share == pytest.approx(0.5)


def test_a_mono_call_has_no_long_pause(three: Recordings, tmp_path: Path) -> None:
    call = compose(three, count=1, length_seconds=10.0, load="mono")[0]
    assert call.roles == {0: "agent"}
    words = call.words({one.name: words_of(one) for one in three})
    pauses = [later.start_seconds - word.end_seconds for word, later in itertools.pairwise(words)]
    assert max(pauses) <= PAUSE_SECONDS + 1e-6
    assert {word.text for word in words} >= {"a", "b", "three"}
    assert call.speech_share > 0.65
    call.write(tmp_path / "mono.wav")
    assert soundfile.read(tmp_path / "mono.wav", always_2d=True)[0].shape == (10 * RATE, 1)


def test_a_mixed_call_is_the_sum_of_both_channels(three: Recordings, tmp_path: Path) -> None:
    call = compose(three, count=3, length_seconds=12.0, load="mixed")[1]
    assert (call.name, call.roles) == ("mixed-01", {0: MIXED})
    call.write(tmp_path / "mixed.wav")
    written, rate = soundfile.read(tmp_path / "mixed.wav", dtype="int16", always_2d=True)
    sides = compose(three, count=3, length_seconds=12.0, load="two_channel")[1]
    sides.write(tmp_path / "sides.wav")
    both = soundfile.read(tmp_path / "sides.wav", dtype="int16")[0].astype(int)
    assert (rate, written.shape) == (RATE, (12 * RATE, 1))
    assert np.array_equal(written[:, 0], decode(encode(both.sum(axis=1).astype(np.int16), "mulaw"), "mulaw"))
    assert call.speech_share == sides.speech_share


def test_a_sum_that_is_too_loud_is_clipped(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.array([[30000, 30000], [-30000, -30000], [30000, -30000]], np.int16), RATE, subtype="ULAW")
    loud = Recording(name="loud", path=path, kind="", roles={0: "agent", 1: "customer"}, references={})
    compose([loud], count=1, length_seconds=3 / RATE, load="mixed")[0].write(tmp_path / "mixed.wav")
    assert soundfile.read(tmp_path / "mixed.wav", dtype="int16")[0].tolist() == [32124, -32124, 0]


def test_the_words_of_a_mixed_call_are_those_of_both_speakers_by_time(three: Recordings) -> None:
    call = compose(three, count=1, length_seconds=7.0, load="mixed")[0]  # all of a, three seconds of b
    words = call.words({one.name: words_of(one) for one in three})
    assert {word.channel for word in words} == {0}
    assert " ".join(word.text for word in words) == "a one two a three b one two"
    starts = [word.start_seconds for word in words]
    assert starts == sorted(starts)
    assert words[3].start_seconds == 2.0


@pytest.mark.parametrize("load", ["two_channel", "mono", "mixed"])
@pytest.mark.parametrize("length_seconds", [0.3, 3.7, 40.0])
def test_pieces_cover_a_call_without_holes(three: Recordings, load: Load, length_seconds: float) -> None:
    for call in compose(three, count=3, length_seconds=length_seconds, load=load):
        sides = [[piece for piece in call.pieces if piece.source_channel == channel] for channel in range(2)]
        for pieces in (list(call.pieces),) if load == "mono" else sides:
            end = 0
            for piece in pieces:
                assert piece.at == end
                assert 0 <= piece.start < piece.end <= len(mulaw_channels(piece.recording.path)[piece.source_channel])
                end += piece.end - piece.start
            assert end == call.length_samples == round(length_seconds * RATE)


def test_what_cannot_be_strung_together_is_refused(three: Recordings, tmp_path: Path) -> None:
    wide = recording("wide", tmp_path, seconds=1.0, rate=16_000, spoken={0: [], 1: []})
    single = recording("single", tmp_path, seconds=1.0, spoken={0: [(0.0, 1.0, "one")]})
    silent = recording("silent", tmp_path, seconds=1.0, spoken={0: [], 1: []})
    wrong: tuple[tuple[Recordings, int, Load, str], ...] = (
        (three, 4, "two_channel", "4 different calls"),
        ((wide,), 1, "two_channel", "16000 Hz"),
        ((single,), 1, "two_channel", r"1 channel\(s\)"),
        ((single,), 1, "mixed", r"1 channel\(s\)"),
        ((silent,), 1, "mono", "no times"),
    )
    for found, count, load, reason in wrong:
        with pytest.raises(UsageError, match=reason):
            compose(found, count=count, length_seconds=1.0, load=load)


def test_the_shipped_recordings_give_the_load_that_is_asked_for() -> None:
    calls = compose(interleaved(recordings()), count=10, length_seconds=241.0, load="two_channel")
    assert all(0.65 <= call.speech_share <= 0.75 for call in calls)
    assert len({call.pieces[0].recording.name for call in calls}) == 10
    assert all({piece.recording.kind for piece in call.pieces} == {"plain", "hard"} for call in calls)


def test_kinds_are_mixed_evenly(three: Recordings) -> None:
    kinds = (("h", "hard"), ("i", "hard"), ("p", "plain"), ("q", "plain"), ("r", "plain"), ("s", "plain"))
    found = interleaved([replace(three[0], name=name, kind=kind) for name, kind in kinds])
    assert "".join(one.name for one in found) == "phqris"
    assert interleaved(three) == three
