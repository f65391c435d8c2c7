"""What a source may be: containers that are opened, file extensions that are picked up, encodings without a header."""

from __future__ import annotations

from dataclasses import dataclass

MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 192_000
TELEPHONE_RATE_HZ = 8_000
WIDEBAND_RATE_HZ = 16_000

# FFmpeg demuxers by name. Only containers that hold audio themselves: playlists (hls, concat, dash) would make a
# recording open other files, and formats without a header are guesses (they are opened by name, with a RawFormat).
CONTAINERS = ("wav", "flac", "mp3", "ogg", "aiff", "au", "mov", "matroska", "aac", "amr")

LOSSLESS_EXTENSIONS = {".wav", ".wave", ".flac", ".aif", ".aiff", ".au", ".snd"}
LOSSY_EXTENSIONS = {".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".mka", ".webm", ".aac", ".amr"}
EXTENSIONS = frozenset(LOSSLESS_EXTENSIONS | LOSSY_EXTENSIONS)
RAW_EXTENSIONS = frozenset([".raw", ".pcm", ".sln", ".ul", ".ulaw", ".mulaw", ".al", ".alaw", ".g711"])

# Encoding without a header -> FFmpeg demuxer, bytes per sample.
RAW_ENCODINGS: dict[str, tuple[str, int]] = {
    "mulaw": ("mulaw", 1),
    "alaw": ("alaw", 1),
    "pcm_s16le": ("s16le", 2),
    "pcm_s16be": ("s16be", 2),
    "pcm_u8": ("u8", 1),
    "pcm_s24le": ("s24le", 3),
    "pcm_s32le": ("s32le", 4),
    "pcm_f32le": ("f32le", 4),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFormat:
    """Samples without a header: interleaved ``channels``, ``encoding`` one of `RAW_ENCODINGS`."""

    encoding: str
    sample_rate_hz: int = TELEPHONE_RATE_HZ
    channels: int = 1

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one sample of every channel."""
        return RAW_ENCODINGS[self.encoding][1] * self.channels


def output_format(codec: str, sample_rate_hz: int) -> tuple[str, int]:
    """Return the encoding and rate that call.audio carries for a source: G.711 at 8 kHz stays, the rest is pcm_s16le.

    >>> output_format("mulaw", 8000), output_format("pcm", 44100), output_format("pcm", 4000)
    (('mulaw', 8000), ('pcm_s16le', 16000), ('pcm_s16le', 8000))
    """
    if codec in ("mulaw", "alaw") and sample_rate_hz == TELEPHONE_RATE_HZ:
        return codec, TELEPHONE_RATE_HZ
    return "pcm_s16le", TELEPHONE_RATE_HZ if sample_rate_hz <= TELEPHONE_RATE_HZ else WIDEBAND_RATE_HZ
