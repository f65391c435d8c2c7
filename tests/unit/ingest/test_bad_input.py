"""Every kind of bad input is refused before anything is produced, by one line that names file and reason."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import InputError
from pipeline.ingest.decode import open_audio
from pipeline.ingest.formats import RawFormat
from tests.unit.ingest.recordings import encode, speechlike, write


def wav(*, tag: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, size: int | None = None) -> bytes:
    """Return a WAV of 16000 bytes of audio whose header says what it is told to."""
    body = b"\x01\x02" * 8000
    byte_rate = rate * channels * bits // 8 & 0xFFFFFFFF
    fmt = struct.pack("<IHHIIHH", 16, tag, channels, rate, byte_rate, channels * bits // 8, bits)
    promised = len(body) if size is None else size
    return (
        b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt " + fmt + b"data" + struct.pack("<I", promised) + body
    )


BYTES = {
    "nothing": (b"", r"is empty \(0 bytes\)"),
    "text": (b"hello, this is not audio\n" * 200, "is not audio"),
    "noise": (np.random.default_rng(1).bytes(20_000), "is not audio"),
    "frames of noise": (np.random.default_rng(2).bytes(200_000), "does not decode|is not audio"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(200), "is not audio"),
    "playlist": (b"#EXTM3U\n#EXTINF:1,\nother.wav\n", "is not audio"),
    "concatenation": (b"ffconcat version 1.0\nfile other.wav\n", "is not audio"),
    "half a header": (wav()[:20], "is truncated: the file ends inside its header"),
    "no audio": (wav()[:44], "is truncated: its header promises 16000 bytes of audio, 0 are there"),
    "half the audio": (wav()[:8044], "is truncated: its header promises 16000 bytes of audio, 8000 are there"),
    "a header alone": (wav(size=0)[:44], "holds no audio"),
    "an unfinished recording": (wav(size=0), "is unfinished"),
    "zero channels": (wav(channels=0), "has 0 channels"),
    "255 channels": (wav(channels=255), "has 255 channels"),
    "rate 0": (wav(rate=0), "has a sample rate of 0 Hz"),
    "rate 1": (wav(rate=1), "has a sample rate of 1 Hz"),
    "rate 4 GHz": (wav(rate=4_000_000_000), "has a sample rate of 4000000000 Hz"),
    "unknown codec": (wav(tag=0x9999), "codec that is not supported"),
    "no bits": (wav(bits=0), "codec that is not supported"),
}


@pytest.mark.parametrize("what", BYTES)
def test_a_file_of(tmp_path: Path, what: str) -> None:
    data, reason = BYTES[what]
    path = tmp_path / "bad.wav"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"bad\.wav: .*({reason})") as caught:
        open_audio(path)
    assert "\n" not in str(caught.value)


def test_a_header_of_unknown_size_promises_nothing(tmp_path: Path) -> None:
    path = tmp_path / "streamed.wav"
    path.write_bytes(wav(size=0xFFFFFFFF))
    with open_audio(path) as source:
        assert sum(len(blocks[0]) for blocks in source.blocks()) == 16000


def _cut(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    "call.wav": lambda path: write(path, speechlike(3.0, 8000), 8000, "ULAW"),
    "call.flac": lambda path: write(path, speechlike(3.0, 8000), 8000),
    "call.aiff": lambda path: write(path, speechlike(3.0, 8000), 8000),
    "call.au": lambda path: write(path, speechlike(3.0, 8000), 8000),
    "call.ogg": lambda path: write(path, speechlike(3.0, 8000), 8000, "VORBIS"),
    "call.opus": lambda path: encode(path, speechlike(3.0, 48000), 48000, codec="libopus"),
    "call.mp3": lambda path: encode(path, speechlike(3.0, 8000), 8000, codec="libmp3lame"),
    "call.m4a": lambda path: encode(path, speechlike(3.0, 8000), 8000, codec="aac"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_file_is_refused_when_it_is_opened(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name)
    open_audio(path).close()
    with pytest.raises(InputError, match=f"{name}: (is truncated|is not audio)"):
        open_audio(_cut(path))


def test_paths_that_are_no_recordings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.wav: does not exist"):
        open_audio(tmp_path / "nowhere.wav")
    with pytest.raises(InputError, match="is a folder, not a recording"):
        open_audio(tmp_path)
    with pytest.raises(InputError, match="is not a regular file"):
        open_audio(Path("/dev/null"))
    (tmp_path / "call.ulaw").write_bytes(bytes(100))
    with pytest.raises(InputError, match=r"call\.ulaw: has no header; say what it holds with --encoding"):
        open_audio(tmp_path / "call.ulaw")


def test_raw_audio_that_does_not_fit_its_description(tmp_path: Path) -> None:
    path = tmp_path / "call.raw"
    path.write_bytes(bytes(1001))
    with pytest.raises(InputError, match="is truncated: 1001 bytes are not a whole number of 4-byte frames"):
        open_audio(path, raw=RawFormat(encoding="pcm_s16le", channels=2))
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        open_audio(path, raw=RawFormat(encoding="mulaw"))
    path.write_bytes(wav())
    with pytest.raises(InputError, match="has a header; leave out --encoding"):
        open_audio(path, raw=RawFormat(encoding="mulaw"))
