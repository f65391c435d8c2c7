"""The load: recordings strung together to calls as long as a run needs, and what is said in them when.

Two-channel calls are whole recordings one after the other. Mono calls are one channel after the other with every pause
between utterances cut to at most `PAUSE_SECONDS`: speech without end, as other systems are measured with. Mixed calls are
two-channel calls whose channels are summed: who speaks when is left to diarization.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.bench.recordings import Recording
from pipeline.bench.word_ends import TrueWord
from pipeline.core import g711
from pipeline.core.errors import UsageError
from pipeline.core.speakers import MIXED
from pipeline.ingest.decode import open_audio

RATE = 8_000
LEAST, MOST = -32768, 32767  # 16 bits
LEAD_SECONDS = 0.1  # of a pause that stay before an utterance of a mono call
PAUSE_SECONDS = 0.5  # between two utterances of a mono call, at most

Load = Literal["two_channel", "mono", "mixed"]

NAMES: Mapping[Load, str] = {
    "two_channel": "call",
    "mono": "mono",
    "mixed": "mixed",
}  # of compositions, before a number
ROLES: Mapping[Load, Mapping[int, str]] = {"mono": {0: "agent"}, "mixed": {0: MIXED}}  # two channels: the recording's


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of one channel of a recording, and where it lies in the call. Positions are samples at 8 kHz.

    [``start``, ``end``) of ``source_channel`` becomes [``at``, ``at + end - start``) of ``channel``.
    """

    recording: Recording
    source_channel: int
    channel: int
    start: int
    end: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """One call to feed: 8 kHz mu-law, ``length_samples`` per channel, pieces without holes; those that overlap are summed."""

    name: str
    roles: Mapping[int, str]
    length_samples: int
    pieces: tuple[Piece, ...]

    @property
    def length_seconds(self) -> float:
        """Return how long the call is."""
        return self.length_samples / RATE

    @property
    def speech_share(self) -> float:
        """Return the length of all reference utterances, channels summed, over the length of the call."""
        return sum(_speech_samples(piece) for piece in self.pieces) / self.length_samples

    def write(self, path: Path) -> None:
        """Write the call as WAV with G.711 mu-law. Sums are linear, and clipped to 16 bits."""
        import soundfile

        audio = np.zeros((self.length_samples, len(self.roles)), dtype=np.int16)
        for piece in self.pieces:
            codes = mulaw_channels(piece.recording.path)[piece.source_channel][piece.start : piece.end]
            place = audio[piece.at : piece.at + len(codes), piece.channel]
            place[:] = np.clip(place + g711.decode(codes, "mulaw").astype(np.int32), LEAST, MOST)
        soundfile.write(path, audio, RATE, subtype="ULAW", format="WAV")

    def words(self, spoken: Mapping[str, Sequence[TrueWord]]) -> tuple[TrueWord, ...]:
        """Return the words of the call by (channel, time), in seconds from its start.

        ``spoken`` has the words of every recording by name. A word that is cut off is left out.
        """
        placed = [
            replace(
                word,
                channel=piece.channel,
                start_seconds=word.start_seconds + (piece.at - piece.start) / RATE,
                end_seconds=word.end_seconds + (piece.at - piece.start) / RATE,
            )
            for piece in self.pieces
            for word in spoken[piece.recording.name]
            if word.channel == piece.source_channel
            and piece.start <= round(word.start_seconds * RATE)
            and round(word.end_seconds * RATE) <= piece.end
        ]
        return tuple(sorted(placed, key=lambda word: (word.channel, word.start_seconds)))


def compose(
    recordings: Sequence[Recording], *, count: int, length_seconds: float, load: Load
) -> tuple[Composition, ...]:
    """Return ``count`` different calls, each beginning with another of ``recordings`` and going round.

    Raises UsageError when there are fewer usable recordings than calls, and for a recording that is not two channels (mono
    calls: any number) at 8 kHz, or whose reference tells no times.
    """
    if count > len(recordings):
        raise UsageError(f"{count} different calls need as many recordings, and there are {len(recordings)}")
    length = round(length_seconds * RATE)
    composed = []
    for number in range(count):
        first = number * len(recordings) // count
        order = [*recordings[first:], *recordings[:first]]
        pieces = _continuous(order, length) if load == "mono" else _whole(order, length, is_summed=load == "mixed")
        composed.append(
            Composition(
                name=f"{NAMES[load]}-{number:02}",
                roles=ROLES.get(load, order[0].roles),
                length_samples=length,
                pieces=tuple(pieces),
            )
        )
    return tuple(composed)


def interleaved(recordings: Sequence[Recording]) -> tuple[Recording, ...]:
    """Return the recordings with their kinds spread evenly, so that neighbours make a call of every kind."""
    kinds: dict[str, list[Recording]] = {}
    for recording in recordings:
        kinds.setdefault(recording.kind, []).append(recording)
    placed = [
        ((index + 0.5) / len(found), kind, recording)
        for kind, found in kinds.items()
        for index, recording in enumerate(found)
    ]
    return tuple(recording for _, _, recording in sorted(placed, key=lambda one: one[:2]))


@cache
def mulaw_channels(path: Path) -> tuple[bytes, ...]:
    """Return the channels of a recording as mu-law. Raises InputError, and UsageError when it is not at 8 kHz."""
    with open_audio(path) as source:
        blocks = list(source.blocks())
        encoding, rate = source.encoding, source.sample_rate_hz
    if rate != RATE:
        raise UsageError(f"{path}: {rate} Hz; calls are strung together from recordings at {RATE} Hz")
    return tuple(_mulaw(b"".join(pieces), encoding) for pieces in zip(*blocks, strict=True))


def _mulaw(data: bytes, encoding: str) -> bytes:
    if encoding == "mulaw":
        return data
    if encoding == "alaw":
        return g711.encode(g711.decode(data, "alaw"), "mulaw")
    return g711.encode(np.frombuffer(data, dtype="<i2").astype(np.int16), "mulaw")


def _whole(order: Sequence[Recording], length: int, *, is_summed: bool) -> Iterator[Piece]:
    """Yield whole recordings until ``length`` is reached, the last one cut; both channels on channel 0 when ``is_summed``."""
    at = 0
    for recording in cycle(order):
        channels = mulaw_channels(recording.path)
        if len(channels) != 2 or not channels[0]:
            raise UsageError(f"{recording.path}: {len(channels)} channel(s) with audio; a call has two")
        size = min(len(channels[0]), length - at)
        for source in range(2):
            channel = 0 if is_summed else source
            yield Piece(recording=recording, source_channel=source, channel=channel, start=0, end=size, at=at)
        at += size
        if at == length:
            return


def _continuous(order: Sequence[Recording], length: int) -> Iterator[Piece]:
    """Yield utterance after utterance, each with its share of the pauses around it, until ``length`` is reached."""
    at = 0
    for recording in cycle(order):
        for channel in recording.references:
            for begin, end in _stretches(recording, channel):
                end = min(end, begin + length - at)
                yield Piece(recording=recording, source_channel=channel, channel=0, start=begin, end=end, at=at)
                at += end - begin
                if at == length:
                    return
        if not at:
            raise UsageError(f"{recording.path}: its reference tells no times, or nothing is said in it")


def _stretches(recording: Recording, channel: int) -> Iterator[tuple[int, int]]:
    """Yield first sample and end of each utterance with the pause that stays around it."""
    lead = round(LEAD_SECONDS * RATE)
    spans = _spans(recording, channel)
    total = len(mulaw_channels(recording.path)[channel])
    limits = [*(start for start, _ in spans[1:]), total]
    end = 0
    for (start, stop), limit in zip(spans, limits, strict=False):
        begin = max(end, start - lead)
        end = min(max(stop, min(stop + round(PAUSE_SECONDS * RATE) - lead, limit)), total)
        if begin < end:
            yield begin, end


def _spans(recording: Recording, channel: int) -> list[tuple[int, int]]:
    """Return first sample and end of the utterances of a channel whose times are known."""
    return [
        (round(utterance.start_seconds * RATE), round(utterance.end_seconds * RATE))
        for utterance in recording.references.get(channel, ())
        if utterance.start_seconds is not None and utterance.end_seconds is not None
    ]


def _speech_samples(piece: Piece) -> int:
    return sum(
        max(0, min(end, piece.end) - max(start, piece.start))
        for start, end in _spans(piece.recording, piece.source_channel)
    )
