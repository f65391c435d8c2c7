"""Reading recordings: exact where the source is, compared with libsndfile throughout."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.core import g711
from pipeline.core.errors import InputError
from pipeline.ingest.decode import DamagedAudioError, open_audio
from pipeline.ingest.formats import RawFormat
from tests.unit.ingest.recordings import Pipe, encode, pcm, read_all, speechlike, write

LAWS = {"ULAW": "mulaw", "ALAW": "alaw"}


@pytest.mark.parametrize("subtype", LAWS)
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("container", ["wav", "au"])
def test_g711_at_8_khz_reaches_the_topic_byte_by_byte(
    tmp_path: Path, subtype: str, channels: int, container: str
) -> None:
    codes = np.random.default_rng(1).integers(0, 256, size=(5000, channels), dtype=np.uint8)  # both zeros included
    path = write(tmp_path / f"call.{container}", np.zeros((5000, channels)), 8000, subtype)
    header = path.read_bytes()[: -codes.size]
    path.write_bytes(header + codes.tobytes())

    source = open_audio(path)

    assert (source.encoding, source.sample_rate_hz, source.channels) == (LAWS[subtype], 8000, channels)
    assert read_all(source) == [codes[:, channel].tobytes() for channel in range(channels)]


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_raw_g711_reaches_the_topic_byte_by_byte(tmp_path: Path, law: str) -> None:
    codes = np.random.default_rng(2).integers(0, 256, size=(4001, 2), dtype=np.uint8)
    path = tmp_path / "call.raw"
    path.write_bytes(codes.tobytes())
    raw = RawFormat(encoding=law, channels=2)
    expected = [codes[:, 0].tobytes(), codes[:, 1].tobytes()]
    assert read_all(open_audio(path, raw=raw)) == expected
    assert read_all(open_audio(Pipe(codes.tobytes(), step=333), name="-", raw=raw)) == expected


def test_g711_at_another_rate_is_decoded_by_the_table(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.wav", speechlike(0.5, 16000), 16000, "ULAW")
    codes = path.read_bytes()[-8000:]
    source = open_audio(path)
    assert (source.encoding, source.sample_rate_hz) == ("pcm_s16le", 16000)
    np.testing.assert_array_equal(pcm(read_all(source)[0]), g711.decode(codes, "mulaw"))


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("name", ["call.wav", "call.flac", "call.aiff", "call.au"])
def test_16_bit_samples_pass_untouched(tmp_path: Path, name: str, rate: int) -> None:
    samples = speechlike(0.7, rate, channels=2)
    path = write(tmp_path / name, samples, rate, "PCM_16")
    expected, _ = soundfile.read(path, dtype="int16")
    source = open_audio(path)
    assert (source.encoding, source.sample_rate_hz, source.channels) == ("pcm_s16le", rate, 2)
    np.testing.assert_array_equal(np.stack([pcm(data) for data in read_all(source)], axis=1), expected)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_other_samples_are_rounded_to_16_bits(tmp_path: Path, subtype: str) -> None:
    path = write(tmp_path / "call.wav", speechlike(0.5, 8000) * 1.2, 8000, subtype)
    exact, _ = soundfile.read(path, dtype="float64")
    expected = np.clip(np.rint(exact * 32768), -32768, 32767)
    np.testing.assert_array_equal(pcm(read_all(open_audio(path))[0]), expected)


def test_float_samples_that_are_not_numbers_or_too_loud_do_not_wrap(tmp_path: Path) -> None:
    samples = np.array([[np.nan], [np.inf], [-np.inf], [5.0], [-5.0], [0.25]])
    path = write(tmp_path / "odd.wav", samples, 8000, "FLOAT")
    assert pcm(read_all(open_audio(path))[0]).tolist() == [0, 32767, -32768, 32767, -32768, 8192]


@pytest.mark.parametrize(
    ("rate", "out"),
    [(1000, 8000), (6000, 8000), (11025, 16000), (22050, 16000), (44100, 16000), (48000, 16000), (192000, 16000)],
)
def test_other_rates_are_resampled_once(tmp_path: Path, rate: int, out: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(rate * 2) / rate)[:, None]
    source = open_audio(write(tmp_path / "call.wav", tone, rate, "PCM_16"))
    samples = pcm(read_all(source)[0])
    assert (source.sample_rate_hz, len(samples)) == (out, 2 * out)
    expected = 0.5 * np.sin(2 * np.pi * 200 * np.arange(out * 2) / out)
    middle = slice(out // 2, -out // 2)
    assert np.abs(samples[middle] / 32768 - expected[middle]).max() < 0.002


@pytest.mark.parametrize(
    ("encoding", "dtype"),
    [("pcm_s16le", "<i2"), ("pcm_s16be", ">i2"), ("pcm_s32le", "<i4"), ("pcm_f32le", "<f4"), ("pcm_u8", "u1")],
)
def test_raw_pcm(tmp_path: Path, encoding: str, dtype: str) -> None:
    values = np.array([[0, 100], [-100, 120], [64, -128]])
    kind = np.dtype(dtype)
    stored = {"u": values + 128, "f": values / 128, "i": values << (8 * kind.itemsize - 8)}[kind.kind].astype(kind)
    path = tmp_path / "call.pcm"
    path.write_bytes(stored.tobytes())
    left, right = read_all(open_audio(path, raw=RawFormat(encoding=encoding, sample_rate_hz=16000, channels=2)))
    assert pcm(left).tolist() == (values[:, 0] * 256).tolist()
    assert pcm(right).tolist() == (values[:, 1] * 256).tolist()


@pytest.mark.parametrize(
    ("name", "codec", "rate", "out"),
    [
        ("call.mp3", "libmp3lame", 8000, 8000),
        ("call.mp3", "libmp3lame", 44100, 16000),
        ("call.opus", "libopus", 48000, 16000),
        ("call.ogg", "libopus", 48000, 16000),
        ("call.webm", "libopus", 48000, 16000),
        ("call.m4a", "aac", 16000, 16000),
    ],
)
def test_compressed_recordings_keep_their_length_and_channels(
    tmp_path: Path, name: str, codec: str, rate: int, out: int
) -> None:
    samples = speechlike(3.0, rate, channels=2)
    source = open_audio(encode(tmp_path / name, samples, rate, codec=codec))
    left, right = (pcm(data) / 32768 for data in read_all(source))
    assert source.sample_rate_hz == out
    assert abs(len(left) / out - 3.0) < 0.15
    assert _pitch(left, out) == pytest.approx(150, abs=3)
    assert _pitch(right, out) == pytest.approx(220, abs=3)


def test_vorbis_by_libsndfile_is_the_same_length(tmp_path: Path) -> None:
    path = write(tmp_path / "call.ogg", speechlike(2.0, 16000), 16000, "VORBIS")
    assert len(read_all(open_audio(path))[0]) == 2 * 32000


@pytest.mark.parametrize("name", ["call.wav", "call.flac", "call.mp3", "call.ogg", "call.aiff"])
@pytest.mark.parametrize("step", [37, 5000])
def test_a_pipe_gives_the_same_samples_as_the_file(tmp_path: Path, name: str, step: int) -> None:
    path = write(tmp_path / name, speechlike(1.5, 44100, channels=2), 44100)
    from_file = read_all(open_audio(path))
    from_pipe = read_all(open_audio(Pipe(path.read_bytes(), step=step), name="-"))
    length = min(len(from_file[0]), len(from_pipe[0]))
    assert abs(len(from_file[0]) - len(from_pipe[0])) < 0.1 * 32000  # MP3: the padding at the end needs a look ahead
    assert [data[: length - 400] for data in from_pipe] == [data[: length - 400] for data in from_file]


def test_a_long_recording_is_never_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "long.wav", np.zeros((8000 * 300, 2)), 8000, "PCM_16")  # 10 MB
    tracemalloc.start()
    try:
        with open_audio(path) as source:
            count = sum(len(blocks[0]) for blocks in source.blocks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 2 * 8000 * 300
    assert peak < 1_000_000


def test_damage_in_the_middle_is_told_after_the_good_part(tmp_path: Path) -> None:
    path = encode(tmp_path / "call.mp3", speechlike(10.0, 8000), 8000, codec="libmp3lame")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(3).bytes(3000)
    path.write_bytes(data)
    source = open_audio(path)
    good: list[int] = []
    with source, pytest.raises(DamagedAudioError, match=r"call\.mp3: is damaged at [45]\.\d s"):
        good.extend(len(blocks[0]) for blocks in source.blocks())
    assert 4.5 * 16000 < sum(good) < 5.5 * 16000


@pytest.mark.parametrize("name", ["call.opus", "call.flac"])
def test_a_hole_in_the_middle_is_damage_not_a_shift(tmp_path: Path, name: str) -> None:
    rate = 48000
    path = write(tmp_path / name, speechlike(20.0, rate), rate, "OPUS" if name.endswith("opus") else "PCM_16")
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + data[middle + len(data) // 10 :])
    with pytest.raises(DamagedAudioError, match=r"is damaged"):
        read_all(open_audio(path))


@pytest.mark.parametrize("name", ["call.wav", "call.opus", "call.flac"])
def test_a_pipe_that_breaks_off_is_damage(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, speechlike(5.0, 48000), 48000, "OPUS" if name.endswith("opus") else "PCM_16")
    data = path.read_bytes()
    with pytest.raises(DamagedAudioError, match=r"^-: "):
        read_all(open_audio(Pipe(data[: len(data) // 2]), name="-"))


def test_mp3_with_tags_behind_the_audio_is_whole(tmp_path: Path) -> None:
    path = encode(tmp_path / "call.mp3", speechlike(3.0, 16000), 16000, codec="libmp3lame")
    whole = read_all(open_audio(path))
    path.write_bytes(path.read_bytes() + bytes(3000) + b"TAG" + bytes(125))
    tagged = read_all(open_audio(path))
    assert tagged[0].startswith(whole[0])
    assert len(tagged[0]) - len(whole[0]) < 2 * 2 * 1152  # the padding after the last sample


def test_a_name_that_looks_like_a_protocol_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(Path("data:call.wav"), speechlike(0.2, 8000), 8000)
    assert len(read_all(open_audio(path))[0]) == 3200


def test_the_number_of_channels_is_limited(tmp_path: Path) -> None:
    path = write(tmp_path / "many.wav", np.zeros((100, 5)), 8000)
    assert len(read_all(open_audio(path, max_channels=5))) == 5
    with pytest.raises(InputError, match=r"has 5 channels; ingest\.max_channels allows 4"):
        open_audio(path, max_channels=4)


def _pitch(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))
