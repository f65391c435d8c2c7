"""What the diarize stage keeps of a lane, and how its audio moves. Positions count at 16 kHz, frames of 320 samples since the start."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.core.contract import Draft
from pipeline.core.errors import PoisonError
from pipeline.core.frozen import changed
from pipeline.diarize.pending import Pending
from pipeline.diarize.points import Voices
from pipeline.diarize.turns import Run
from pipeline.diarize.window import FRAME, RATE
from schemas.records import CallSpeech, Identity, Turn

EMPTY: NDArray[np.int16] = np.zeros(0, dtype=np.int16)


@dataclass(frozen=True, eq=False, kw_only=True)
class DiarizeState:
    """One lane, changed by `pipeline.core.frozen.changed`. ``is_heard`` False: the channel says who speaks, or nobody does.

    ``audio`` is what was heard of late, from ``audio_from`` on, silence between utterances as zeros; ``pieces`` the (sequence, end) of
    the records it came in.
    """

    rate: int
    turn: Turn  # of a lane that is not heard
    owes_turn: bool = False  # the lane was heard up to the last restart, and is not any more
    is_heard: bool = False
    has_written: bool = False
    min_speakers: int = 1
    max_speakers: int = 1
    audio: NDArray[np.int16] = field(default_factory=lambda: EMPTY)
    audio_from: int = 0
    pieces: tuple[tuple[int, int], ...] = ()
    heard_to: int = 0  # everything below was said before the last restart, or is silence
    is_open: bool = False
    utterance: int = -1
    utterance_start: int = 0
    end: int | None = None  # of the open utterance once it is known
    next_step: int = 0
    pending: Pending = field(default_factory=Pending)
    runs: tuple[Run, ...] = ()
    learned_to: int = 0  # frame: voices were learned from what is before
    voices: Voices = field(default_factory=Voices)
    failure: str = ""  # why the models could not hear the last window
    behind: tuple[Draft, ...] = ()  # what is written when the open utterance is closed
    identities: tuple[Identity, ...] = ()

    @property
    def ratio(self) -> int:
        """Return 16 kHz samples per sample of the channel."""
        return RATE // self.rate

    @property
    def audio_end(self) -> int:
        """Return the position of the end of the received audio."""
        return self.audio_from + len(self.audio)


def listen(state: DiarizeState, record: CallSpeech, *, window: int, step: int) -> DiarizeState:
    """Return the state with one more piece of speech. Raises PoisonError when it does not fit.

    An utterance is heard at multiples of ``step``, each time with the ``window`` samples before.
    """
    speech = record.speech
    if speech is None or len(speech.audio) % 2:
        raise PoisonError(f"speech record {record.sequence} has no usable audio")
    start = record.start_sample * state.ratio
    samples = np.frombuffer(speech.audio, dtype="<i2").astype(np.int16)
    end = start + len(samples)
    if state.is_open and (speech.utterance != state.utterance or start != state.audio_end):
        at = state.audio_end // state.ratio
        raise PoisonError(
            f"speech record {record.sequence} does not continue utterance {state.utterance} at sample {at}"
        )
    if not state.is_open:
        state = _behind(state, start, window)
    state = changed(
        state,
        audio=np.concatenate([state.audio, samples]),
        pieces=(*state.pieces, (record.sequence, end)),
    )
    if end <= state.heard_to and not state.is_open:  # heard before a restart: it is needed for the windows that follow
        return forget(state, window=window, position=end)
    if not state.is_open:
        start = max(start, state.heard_to)
        state = changed(
            state,
            is_open=True,
            utterance=speech.utterance,
            utterance_start=start,
            next_step=(start // step + 2) * step,
            pending=Pending(start=start // FRAME),
            runs=(),
        )
    return changed(state, end=end if speech.is_last else None)


def heard(state: DiarizeState, position: int, window: int) -> NDArray[np.int16]:
    """Return the ``window`` samples before ``position``, zeros where there is nothing."""
    first = position - window
    part = state.audio[max(0, first - state.audio_from) : max(0, position - state.audio_from)]
    before = max(0, state.audio_from - first)
    audio = np.zeros(window, dtype=np.int16)
    audio[before : before + len(part)] = part
    return audio


def forget(state: DiarizeState, *, window: int, position: int) -> DiarizeState:
    """Return the state without the audio that no window which ends behind ``position`` reaches."""
    first = min(max(state.audio_from, position - window), state.audio_end)
    return changed(
        state,
        audio=state.audio[first - state.audio_from :].copy(),
        audio_from=first,
        pieces=tuple(piece for piece in state.pieces if piece[1] > position - window),
    )


def _behind(state: DiarizeState, start: int, window: int) -> DiarizeState:
    """Return the state whose audio reaches up to ``start``, silence filled in."""
    if start <= state.audio_end and len(state.audio):
        kept = max(0, start - state.audio_from)
        return changed(state, audio=state.audio[:kept])
    if start - state.audio_end >= window or not len(state.audio):
        return changed(state, audio=EMPTY, audio_from=start, pieces=())
    silence = np.zeros(start - state.audio_end, dtype=np.int16)
    return changed(state, audio=np.concatenate([state.audio, silence]))
