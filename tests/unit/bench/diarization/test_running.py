from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.bench.diarization.figures import latencies, output_of
from pipeline.bench.diarization.recordings import recordings
from pipeline.bench.diarization.running import Speakers, diarize, engines_of, mixed_call
from pipeline.core.errors import InputError
from pipeline.core.speakers import MIXED
from pipeline.runtime.settings import Settings
from tests.unit.bench.diarization.scripted import script_diarize

SETTINGS = Settings.model_validate({"diarize": {"engine": "channel"}})


def shipped(name: str) -> Path:
    return next(each.path for each in recordings() if each.name == name)


def test_turns_are_noted_with_the_audio_that_had_been_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = script_diarize(monkeypatch)
    heard: list[float] = []
    done = diarize(
        shipped("mulaw-01"), SETTINGS, engines_of(SETTINGS), Speakers(least=2, most=3), on_progress=heard.append
    )
    info = soundfile.info(shipped("mulaw-01"))
    assert done.audio_seconds == pytest.approx(info.duration)
    assert heard == sorted(heard)
    assert heard[-1] == done.audio_seconds
    assert {(started.min_speakers, started.max_speakers) for started in scripted.started} == {(2, 3)}
    assert {started.channels[0].role for started in scripted.started} == {MIXED}
    assert len(done.written) > 20
    for one in done.written:
        (turn,) = one.turns.turns
        assert turn.end_sample is not None
        assert one.sample_rate_hz == 8_000
        assert turn.end_sample / one.sample_rate_hz <= one.fed_seconds  # nothing is said of audio that has not been fed
    output = output_of(done.written, done.audio_seconds)
    assert set(output) == {"s1", "s2"}
    reference = next(each for each in recordings() if each.name == "mulaw-01").speech
    final, never = latencies(reference, done.written)
    assert never <= 20  # the watermark stays a second behind, and nothing moves it on at the end
    assert min(final) > 0.5
    assert done.wall_seconds > 0


def test_the_channel_engine_says_unknown_for_the_whole_call() -> None:
    done = diarize(shipped("mulaw-01"), SETTINGS, engines_of(SETTINGS), Speakers())
    assert output_of(done.written, done.audio_seconds) == {"unknown": ((0.0, done.audio_seconds),)}


def test_mu_law_stays_as_it_is() -> None:
    records = list(mixed_call(shipped("mulaw-01"), Speakers(), record_seconds=0.5))
    assert {record.audio.encoding for record in records if record.audio} == {"mulaw"}
    assert [record.kind for record in records if record.audio is None] == ["started", "ended"]


@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW", "ALAW"])
def test_channels_are_added_up(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "two.wav"
    soundfile.write(path, np.tile([[0.5, -0.25]], (8000, 1)), 8000, subtype=subtype)
    records = list(mixed_call(path, Speakers(), record_seconds=0.5))
    data = b"".join(record.audio.data for record in records if record.audio)
    samples = np.frombuffer(data, dtype="<i2")
    assert len(samples) == 8000
    assert np.allclose(samples / 32768, 0.125, atol=0.01)
    assert {len(record.started.channels) for record in records if record.started} == {1}


def test_a_recording_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"a\.wav"):
        diarize(tmp_path / "a.wav", SETTINGS, engines_of(SETTINGS), Speakers())
