"""Open a recording or a stream, and read it as blocks of samples in an encoding call.audio carries.

Decoding is FFmpeg's (through PyAV), rate conversion soxr's. Memory is bounded by one decoded frame, whatever the length
of the recording. Three paths, by what the source holds:

- G.711 at 8000 Hz: the packets' bytes are passed on as they are, only split by channel;
- 16-bit samples at 8000 or 16000 Hz: passed on as they are;
- all else: float samples, resampled once to 8000 Hz (sources below that) or 16000 Hz, rounded to 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import av
import av.error
import av.logging
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.ingest.formats import CONTAINERS, RAW_ENCODINGS, RAW_EXTENSIONS, RawFormat, output_format
from pipeline.ingest.headers import STREAM_HEAD, STREAM_TAIL, broken_stream, check_channels, check_header, check_rate

Blocks = tuple[bytes, ...]  # one per channel, equal lengths
Samples = NDArray[Any]  # [frames, channels]

G711_CODECS = {"pcm_mulaw": "mulaw", "pcm_alaw": "alaw"}
FULL_SCALE = {"s16": 1.0 / 32768, "s32": 1.0 / 2147483648, "flt": 1.0, "dbl": 1.0}
EXACT_LENGTH = frozenset(("flac", "ogg", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"))  # their duration is no estimate
EXACT_TIMES = frozenset(("flac", "ogg", "matroska,webm"))  # containers that tell where each packet belongs
LENGTH_TOLERANCE_SECONDS = 0.5
TIME_TOLERANCE_SECONDS = 0.1
PIPE_BUFFER_BYTES = 4096

av.logging.set_level(av.logging.PANIC)  # FFmpeg writes to stderr by itself; what matters comes as an exception


class DamagedAudioError(InputError):
    """The audio broke off in the middle. What was read before is good."""


class Readable(Protocol):
    """A stream that cannot be rewound: ``read`` returns at most ``size`` bytes, none at the end."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""


class Witness:
    """Hands a stream through and keeps its two ends, which tell at the end whether it was whole."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.count = 0
        self.head = b""
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes of the stream."""
        data = self._stream.read(size)
        self.count += len(data)
        if len(self.head) < STREAM_HEAD:
            self.head = (self.head + data)[:STREAM_HEAD]
        if self.head.startswith(b"OggS"):
            self.tail = (self.tail + data)[-STREAM_TAIL:]
        return data


@dataclass(slots=True, kw_only=True)
class AudioSource:
    """An open source. ``name`` is for people; ``encoding`` and ``sample_rate_hz`` are those of the blocks.

    ``duration_seconds`` is what the container says, None where it does not. A source is read once and closed by its
    ``with`` block.
    """

    name: str
    codec: str
    channels: int
    sample_rate_hz: int
    encoding: str
    source_rate_hz: int
    duration_seconds: float | None
    _blocks: Iterator[Blocks] = field(repr=False)
    _container: Any = field(repr=False)

    def blocks(self) -> Iterator[Blocks]:
        """Return the encoded samples, one bytes per channel, of equal length. Raises DamagedAudioError on the way."""
        return self._blocks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._container.close()


def open_audio(
    source: Path | Readable, *, name: str | None = None, raw: RawFormat | None = None, max_channels: int = 32
) -> AudioSource:
    """Return an open source whose first samples have been decoded. Raises InputError naming the file and the reason."""
    name = name or str(source)
    pipe: Witness | None = None
    if isinstance(source, Path):
        _check_file(source, name, raw)
    else:
        source = pipe = Witness(source)
    container = _open_container(source, name, raw)
    try:
        if pipe is not None and container.format.name.startswith("mov"):
            raise InputError(name, "is MP4, which cannot be read from a pipe; give the file")
        if isinstance(source, Path) and container.format.name == "flac" and container.duration:
            _check_tail(source, name)
        return _open_stream(container, name, pipe, max_channels=max_channels)
    except BaseException:
        container.close()
        raise


def _check_file(path: Path, name: str, raw: RawFormat | None) -> None:
    if path.is_dir():
        raise InputError(name, "is a folder, not a recording")
    if not path.exists():
        raise InputError(name, "does not exist")
    if not path.is_file():
        raise InputError(name, "is not a regular file; use - and a pipe")
    if raw is None:
        check_header(path, name)
        return
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(name, f"cannot be read ({error.strerror})") from None
    if magic in (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS"):
        raise InputError(name, "has a header; leave out --encoding")
    size = path.stat().st_size
    if size == 0:
        raise InputError(name, "is empty (0 bytes)")
    if size % raw.frame_bytes:
        raise InputError(name, f"is truncated: {size} bytes are not a whole number of {raw.frame_bytes}-byte frames")


def _open_container(source: Path | Readable, name: str, raw: RawFormat | None) -> Any:
    options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
    demuxer = None
    if raw is not None:
        check_rate(raw.sample_rate_hz, name)
        demuxer = RAW_ENCODINGS[raw.encoding][0]
        options = {
            "sample_rate": str(raw.sample_rate_hz),
            "ch_layout": f"{raw.channels}C",
            "probesize": "32",
            "analyzeduration": "0",
        }
    file: Any = f"file:{source}" if isinstance(source, Path) else source
    buffering = {} if isinstance(source, Path) else {"buffer_size": PIPE_BUFFER_BYTES}
    try:
        return av.open(file, mode="r", format=demuxer, options=options, metadata_errors="replace", **buffering)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(name, _opening_reason(source, error)) from None


def _opening_reason(source: Path | Readable, error: Exception) -> str:
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
        return f"cannot be read ({error.strerror})"
    if isinstance(source, Path) and source.suffix.lower() in RAW_EXTENSIONS:
        return "has no header; say what it holds with --encoding, --rate and --channels"
    return "is not audio, or not in a format that is read (WAV, FLAC, MP3, Ogg, Opus, AIFF, AU, MP4, WebM, AAC, AMR)"


def _check_tail(path: Path, name: str) -> None:
    """Raise InputError when the last sample the FLAC header promises cannot be reached (FFmpeg cannot seek in all)."""
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(file.frames - 1)
            is_there = len(file.read(1)) == 1
    except (soundfile.SoundFileError, OSError):
        is_there = False
    if not is_there:
        raise InputError(name, "is truncated: the end its header promises is missing")


def _open_stream(container: Any, name: str, pipe: Witness | None, *, max_channels: int) -> AudioSource:
    if not container.streams.audio:
        raise InputError(name, "holds no audio stream")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None:
        raise InputError(name, "is in a codec that is not supported")
    promised = _duration_seconds(container, stream) if container.format.name in EXACT_LENGTH else None
    if context.name.startswith("pcm_"):
        check_channels(context.channels, name, max_channels=max_channels)
        check_rate(context.sample_rate, name)
    encoding, _ = output_format(G711_CODECS.get(context.name, "pcm"), context.sample_rate)
    if encoding != "pcm_s16le":
        blocks = _split_packets(container, stream, name)
        rate, channels = context.sample_rate, context.channels
    else:
        frames = _decoded(container, stream, name)
        first = next(frames, None)
        if first is None:
            raise InputError(name, "holds no audio")
        rate, channels = first.sample_rate, len(first.layout.channels)
        check_channels(channels, name, max_channels=max_channels)
        check_rate(rate, name)
        has_times = container.format.name in EXACT_TIMES
        blocks = _convert(_checked(first, frames, name, promised=promised, has_times=has_times), rate, channels)
    head = next(blocks, None)
    if head is None:
        raise InputError(name, "holds no audio")
    return AudioSource(
        name=name,
        codec=context.name,
        channels=channels,
        sample_rate_hz=output_format(G711_CODECS.get(context.name, "pcm"), rate)[1],
        encoding=encoding,
        source_rate_hz=rate,
        duration_seconds=_duration_seconds(container, stream),
        _blocks=_chain(head, blocks, pipe, name),
        _container=container,
    )


def _chain(head: Blocks, rest: Iterator[Blocks], pipe: Witness | None, name: str) -> Iterator[Blocks]:
    yield head
    yield from rest
    if pipe is not None and (reason := broken_stream(pipe.head, pipe.tail, pipe.count)) is not None:
        raise DamagedAudioError(name, reason)


def _duration_seconds(container: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None


def _check_length(seconds: float, promised: float | None, name: str) -> None:
    if promised is not None and seconds < promised - LENGTH_TOLERANCE_SECONDS:
        raise DamagedAudioError(name, f"breaks off at {seconds:.1f} s of {promised:.1f} s")


def _split_packets(container: Any, stream: Any, name: str) -> Iterator[Blocks]:
    """Yield the bytes of G.711 packets by channel; they are interleaved sample by sample."""
    channels = stream.codec_context.channels
    try:
        for packet in container.demux(stream):
            data = np.frombuffer(bytes(packet), dtype=np.uint8)
            if data.size % channels:
                raise DamagedAudioError(name, "breaks off inside a sample")
            if data.size:
                yield tuple(data[channel::channels].tobytes() for channel in range(channels))
    except (av.error.FFmpegError, OSError) as error:
        raise DamagedAudioError(name, f"cannot be read on ({error.strerror})") from None


def _decoded(container: Any, stream: Any, name: str) -> Iterator[Any]:
    """Yield decoded frames. A packet that does not decode is damage if samples came before it, else it is no audio."""
    position_seconds = 0.0
    try:
        for frame in container.decode(stream):
            if frame.samples:
                yield frame
                position_seconds += frame.samples / frame.sample_rate
    except (av.error.FFmpegError, OSError) as error:
        if not position_seconds:
            raise InputError(name, f"does not decode as {stream.codec_context.name} ({error.strerror})") from None
        if container.format.name == "mp3" and position_seconds > (_duration_seconds(container, stream) or 0) - 1:
            return  # bytes after the last MP3 frame that are no audio: tags of many kinds
        raise DamagedAudioError(name, f"is damaged at {position_seconds:.1f} s ({error.strerror})") from None


def _checked(
    first: Any, frames: Iterator[Any], name: str, *, promised: float | None, has_times: bool
) -> Iterator[Samples]:
    """Yield the samples of frames, [frames, channels], checked against what the first one and the header say."""
    rate, channels = first.sample_rate, len(first.layout.channels)
    count, frame = 0, first
    while frame is not None:
        if frame.sample_rate != rate or len(frame.layout.channels) != channels:
            raise DamagedAudioError(name, f"changes its sample rate or channels at {count / rate:.1f} s")
        if has_times and frame.pts is not None and first.pts is not None:
            missing = float((frame.pts - first.pts) * frame.time_base) - count / rate
            if missing > TIME_TOLERANCE_SECONDS:
                raise DamagedAudioError(name, f"is damaged: {missing:.1f} s are missing at {count / rate:.1f} s")
        yield _samples(frame, channels, name)
        count += frame.samples
        frame = next(frames, None)
    _check_length(count / rate, promised, name)


def _samples(frame: Any, channels: int, name: str) -> Samples:
    """Return int16 samples as they are, all others as floats with full scale 1, [frames, channels]."""
    array: Samples = frame.to_ndarray()
    kind = frame.format.name.removesuffix("p")
    data: Samples = array.T if frame.format.is_planar else array.reshape(-1, channels)
    if kind == "s16":
        return data
    if kind == "u8":
        return np.asarray((data.astype(np.float32) - 128) / 128)
    if kind not in FULL_SCALE:
        raise InputError(name, f"has samples of type {kind}, which is not supported")
    return np.nan_to_num(data * np.float64(FULL_SCALE[kind]), nan=0.0, posinf=1.0, neginf=-1.0)


def _convert(blocks: Iterator[Samples], source_rate_hz: int, channels: int) -> Iterator[Blocks]:
    """Yield pcm_s16le blocks at the rate of the output; resampled where the source has another rate."""
    rate = output_format("pcm", source_rate_hz)[1]
    if rate == source_rate_hz:
        for block in blocks:
            yield _pcm(block)
        return
    resampler = soxr.ResampleStream(source_rate_hz, rate, channels, dtype="float32", quality="HQ")
    for block in blocks:
        samples = block.astype(np.float32) / 32768 if block.dtype == np.int16 else block
        out = resampler.resample_chunk(np.ascontiguousarray(samples, dtype=np.float32))
        if len(out):
            yield _pcm(out)
    out = resampler.resample_chunk(np.empty((0, channels), np.float32), last=True)
    if len(out):
        yield _pcm(out)


def _pcm(samples: Samples) -> Blocks:
    """Return samples, int16 or float with full scale 1, as one pcm_s16le bytes per channel."""
    if samples.dtype != np.int16:
        samples = np.clip(np.rint(samples * 32768), -32768, 32767)
    return tuple(samples[:, channel].astype("<i2").tobytes() for channel in range(samples.shape[1]))
