"""What the vad stage keeps of a lane, what it asks of the model, and how records become samples and windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.core import g711
from pipeline.core.errors import PoisonError
from pipeline.core.frames import frames
from schemas.records import CallAudio, Gap

RATE = 16_000
WINDOW = 512
CONTEXT = 64
MAX_RECORD_SECONDS = 30

Samples = NDArray[np.int16]
EMPTY: Samples = np.zeros(0, dtype=np.int16)
ZERO_STATE = bytes(4 * 128)
NO_WINDOWS: NDArray[np.float32] = np.zeros((0, CONTEXT + WINDOW), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class VadConfig:
    """Thresholds and lengths; lengths in 16 kHz samples."""

    threshold: float
    negative_threshold: float
    pre_roll: int
    hangover: int
    min_speech: int
    max_utterance: int
    watermark: int
    piece: int = 3_200  # of speech per output record
    pause: int = 4_096  # quiet for so long ends a piece early
    silence_peak: int = 0  # windows without a sample above are silence


@dataclass(frozen=True, slots=True, eq=False)
class VadWork:
    """Windows of one lane to score in order: float32 [n, 64 + 512] in -1..1, and the recurrent state before them.

    ``is_audible`` says of every window that the lane moves over whether it is among them.
    """

    windows: NDArray[np.float32]
    hidden: bytes
    cell: bytes
    is_audible: tuple[bool, ...]
    flush_to: int | None = None  # 16 kHz end of the audio when this is the last of a stretch
    gap: Gap | None = None  # what follows the flush
    pending: CallAudio | None = None  # record that waits behind the flush
    is_break: bool = False  # the feed was interrupted: what follows starts afresh


@dataclass(frozen=True, slots=True, eq=False)
class VadResult:
    """Speech probability of each window, and the recurrent state after them."""

    probabilities: Sequence[float]
    hidden: bytes
    cell: bytes


@dataclass(frozen=True, eq=False, kw_only=True)
class VadState:
    """One lane, changed by `pipeline.core.frozen.changed`.

    ``pieces`` are the (sequence, end) of the records whose audio is still in ``audio``."""

    rate: int
    channel: int = 0
    offset: int = 0  # where a leg that joined late begins
    audio_start: int = -1
    audio_end: int = -1
    source: Samples = field(
        default_factory=lambda: EMPTY
    )  # input around the point up to which it was converted (8 kHz only)
    audio: Samples = field(default_factory=lambda: EMPTY)
    audio_from: int = 0
    pieces: tuple[tuple[int, int], ...] = ()
    scored_end: int = 0
    hidden: bytes = ZERO_STATE
    cell: bytes = ZERO_STATE
    utterance: int = 0
    open_start: int | None = None
    sent_end: int = 0
    run_start: int | None = None  # first window of speech that is not yet long enough to open an utterance
    speech_end: int = 0
    speech_start: int = -1  # in the open utterance, until its first piece is written; -1: it does not begin at a break
    is_continuing: bool = False
    is_first: bool = True
    watermark: int = 0
    floor: int = 0
    is_paused: bool = False
    is_rebuilding: bool = False
    rebuilt_to: int = -1  # audio_end of the snapshot: what lies below was already taken in once
    is_fresh: bool = False  # the open utterance was opened in this step

    @property
    def ratio(self) -> int:
        """Return 16 kHz samples per sample of the channel."""
        return RATE // self.rate

    @property
    def break_end(self) -> int:
        """Return the 16 kHz position at which the audio goes on behind the last break; -1 before the first."""
        return self.audio_start * self.ratio if self.audio_start > self.offset else -1


def work_of(state: VadState, count: int, silence_peak: int) -> VadWork:
    """Return the next ``count`` windows to score, each behind its 64 samples of context, without those that are silence."""
    offset = state.scored_end - state.audio_from
    ahead = state.audio[offset : offset + count * WINDOW]
    rows = ahead.reshape(count, WINDOW)
    is_audible = (rows.max(axis=1) > silence_peak) | (rows.min(axis=1) < -silence_peak)
    if not is_audible.any():
        return VadWork(NO_WINDOWS, state.hidden, state.cell, (False,) * count)
    before = state.audio[max(0, offset - CONTEXT) : offset]
    audio = np.zeros(CONTEXT + len(ahead), dtype=np.float32)
    audio[CONTEXT - len(before) : CONTEXT] = before
    audio[CONTEXT:] = ahead
    audio /= 32768.0
    windows = frames(audio, count=count, size=CONTEXT + WINDOW, step=WINDOW)
    return VadWork(windows[is_audible], state.hidden, state.cell, tuple(is_audible.tolist()))


def probabilities_of(work: VadWork, scores: Sequence[float]) -> list[float]:
    """Return the speech probability of every window that the lane moves over; that of silence is 0."""
    rest = iter(scores)
    return [next(rest) if is_audible else 0.0 for is_audible in work.is_audible]


def peak_of(dbfs: float) -> int:
    """Return the sample value of a level below full scale; -1, which every sample exceeds, for less than one step.

    >>> peak_of(-60.0), peak_of(-100.0)
    (32, -1)
    """
    peak = 32768 * 10 ** (dbfs / 20)
    return int(peak) if peak >= 1 else -1


def decode(record: CallAudio, rate: int) -> Samples:
    """Return the int16 samples of an audio record. Raises PoisonError."""
    audio = record.audio
    if audio is None:
        raise PoisonError(f"audio record {record.sequence} has no audio")
    if audio.encoding in ("mulaw", "alaw") and rate == 8000:
        samples = g711.decode(audio.data, "mulaw" if audio.encoding == "mulaw" else "alaw")
    elif audio.encoding == "pcm_s16le":
        if len(audio.data) % 2:
            raise PoisonError(f"audio record {record.sequence} has an odd number of bytes of pcm_s16le")
        samples = np.frombuffer(audio.data, dtype="<i2").astype(np.int16)
    else:
        raise PoisonError(
            f"audio record {record.sequence} is {audio.encoding[:32]!r} at {rate} Hz; mulaw, alaw (8000 Hz) and pcm_s16le are supported"
        )
    if not 0 < len(samples) <= MAX_RECORD_SECONDS * rate:
        raise PoisonError(
            f"audio record {record.sequence} holds {len(samples)} samples; 1 to {MAX_RECORD_SECONDS * rate} are accepted"
        )
    return samples
