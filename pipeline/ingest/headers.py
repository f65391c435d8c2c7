"""Does a recording keep what its header promises?

A decoder reads a cut-off file to its end and says nothing. These checks read only the frame of the container (sizes,
marks), never audio, so that a truncated recording is refused before anything of it is produced. What cannot be seen
without decoding is left to `pipeline.ingest.decode`.

Sources: RIFF/WAVE (Microsoft, 1991; RF64 EBU Tech 3306), AIFF (Apple, 1989), AU (Sun), Ogg (RFC 3533), ISO base media
(ISO/IEC 14496-12), the Xing/Info header of MP3.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

from pipeline.core.errors import InputError
from pipeline.ingest.formats import MAX_RATE_HZ, MIN_RATE_HZ

UNKNOWN_SIZE = 0x7FFF0000  # writers to a pipe put a size from here up, as they cannot know it
STREAM_HEAD = 4096
STREAM_TAIL = 27 + 255 + 255 * 255 + 27  # the largest Ogg page, with room to find its start
ID3_HEADER = 10


def check_header(path: Path, name: str) -> None:
    """Raise InputError when the file at ``path`` is visibly incomplete, or its header is absurd."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(12)
            file.seek(0)
            _check(file, magic, size, name)
    except OSError as error:
        raise InputError(name, f"cannot be read ({error.strerror or error})") from None
    except struct.error:
        raise InputError(name, "is truncated: the file ends inside its header") from None


def broken_stream(head: bytes, tail: bytes, count: int) -> str | None:
    """Return why a stream of ``count`` bytes that began with ``head`` and ended with ``tail`` is not whole, or None."""
    try:
        if head[8:12] == b"WAVE":
            _check(io.BytesIO(head), head[:12], count, "")
        elif head[:4] == b"OggS":
            _check_ogg(io.BytesIO(tail), len(tail), "")
    except InputError as error:
        return error.reason
    except struct.error:  # the audio begins after the part of the header that was kept
        return None
    return None


def check_channels(count: int, name: str, *, max_channels: int) -> None:
    """Raise InputError unless ``count`` is a number of channels a call can have."""
    if count < 1:
        raise InputError(name, "has 0 channels")
    if count > max_channels:
        raise InputError(name, f"has {count} channels; ingest.max_channels allows {max_channels}")


def check_rate(sample_rate_hz: int, name: str) -> None:
    """Raise InputError unless ``sample_rate_hz`` can be that of speech."""
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
        raise InputError(name, f"has a sample rate of {sample_rate_hz} Hz; {MIN_RATE_HZ} to {MAX_RATE_HZ} are accepted")


def _check(file: BinaryIO, magic: bytes, size: int, name: str) -> None:
    if size == 0:
        raise InputError(name, "is empty (0 bytes)")
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and magic[8:12] == b"WAVE":
        _check_chunks(file, size, name, order=">" if magic[:4] == b"RIFX" else "<", audio=b"data")
    elif magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        _check_chunks(file, size, name, order=">", audio=b"SSND")
    elif magic[:4] == b".snd":
        offset, length = struct.unpack(">II", file.read(12)[4:])
        _check_audio_size(length, size - offset, name)
    elif magic[:4] == b"OggS":
        _check_ogg(file, size, name)
    elif magic[4:8] == b"ftyp":
        _check_boxes(file, size, name)
    elif magic[:3] == b"ID3" or magic[:1] == b"\xff":
        _check_mp3(file, size, name)


def _check_audio_size(promised: int, there: int, name: str) -> None:
    """Compare the bytes of audio a header promises with those that are there."""
    there = max(there, 0)
    if promised >= UNKNOWN_SIZE and promised > there:
        promised = there
    if promised > there:
        raise InputError(name, f"is truncated: its header promises {promised} bytes of audio, {there} are there")
    if promised == 0:
        reason = "holds no audio" if there <= 1 else "is unfinished: its header says 0 bytes of audio, more follow"
        raise InputError(name, reason)


def _check_chunks(file: BinaryIO, size: int, name: str, *, order: str, audio: bytes) -> None:
    position, large_size = 12, None
    while position < size:
        file.seek(position)
        head = file.read(8)
        kind, length = struct.unpack(f"{order}4sI", head)
        body = position + 8
        if kind == b"ds64":
            large_size = struct.unpack("<8xQ", file.read(16))[0]
        elif kind == b"fmt ":
            _, channels, rate = struct.unpack(f"{order}HHI", file.read(8))
            check_channels(channels, name, max_channels=channels)
            check_rate(rate, name)
        elif kind == b"COMM":
            check_channels(struct.unpack(">H", file.read(2))[0], name, max_channels=1 << 16)
        elif kind == audio:
            if length == 0xFFFFFFFF and large_size is not None:
                length = large_size
            _check_audio_size(length, size - body, name)
            return
        position = body + length + length % 2
    raise InputError(name, "is truncated: the file ends before its audio")


def _check_ogg(file: BinaryIO, size: int, name: str) -> None:
    file.seek(max(size - STREAM_TAIL, 0))
    tail = file.read()
    start = tail.rfind(b"OggS")
    page = tail[start : start + 27]
    table = tail[start + 27 : start + 27 + page[26]] if start >= 0 and len(page) == 27 else b""
    is_whole = len(page) == 27 and len(table) == page[26] and start + 27 + len(table) + sum(table) <= len(tail)
    if start < 0 or not is_whole or not page[5] & 0x04:
        raise InputError(name, "is truncated: its last Ogg page is not an end of stream")


def _check_boxes(file: BinaryIO, size: int, name: str) -> None:
    position = 0
    while position < size:
        file.seek(position)
        length, _ = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = struct.unpack(">Q", file.read(8))[0]
        elif length == 0:
            return
        position += max(length, 8)
    if position > size:
        raise InputError(name, f"is truncated: its boxes need {position} bytes, {size} are there")


def _check_mp3(file: BinaryIO, size: int, name: str) -> None:
    start = 0
    head = file.read(ID3_HEADER)
    if head[:3] == b"ID3":
        start = ID3_HEADER + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    if start >= size:
        raise InputError(name, "is truncated: the file ends inside its tag")
    file.seek(start)
    frame = file.read(64)
    marks = [at for at in (frame.find(b"Xing"), frame.find(b"Info")) if at >= 0]
    if not marks:
        return
    flags = struct.unpack_from(">I", frame, marks[0] + 4)[0]
    if not flags & 0x2:
        return
    promised = struct.unpack_from(">I", frame, marks[0] + 8 + (4 if flags & 0x1 else 0))[0]
    if start + promised > size:
        raise InputError(name, f"is truncated: its header promises {promised} bytes of audio, {size - start} are there")
