"""What the asr stage keeps of a lane, and how its window of audio moves: listen, cut, close. Positions count at 16 kHz.

The window is the audio since the last cut together with the tokens committed in it; the decoder is forced to repeat them. A
window that has grown long is cut behind its last finished sentence; the text before the cut becomes prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.asr.policies.base import CommitPolicy, Memory
from pipeline.asr.profiles import ModelProfile
from pipeline.core.contract import Draft
from pipeline.core.errors import PoisonError
from pipeline.core.frozen import changed
from schemas.records import CallSpeech

RATE = 16_000
PAUSE = 3_200  # so much quiet behind the speech is a pause; vad ends a piece in every one
PAUSE_KEPT = 1_600  # of the quiet before the next window
EMPTY: NDArray[np.int16] = np.zeros(0, dtype=np.int16)
NO_MEMORY = Memory()


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed word that is still inside the window."""

    text: str
    tokens: tuple[int, ...]
    end: int
    is_sentence_end: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class AsrState:
    """One lane, changed by `pipeline.core.frozen.changed`. ``profile`` None: nothing can be recognised, ``problem`` says why."""

    rate: int
    profile: ModelProfile | None
    policy: CommitPolicy | None
    problem: str | None = None
    task: str = "transcribe"
    language: str | None = None  # in force; AUTOMATIC until one is locked
    language_probability: float | None = None
    prompt: str | None = None
    hot_words: tuple[str, ...] = ()
    is_prompt_set: bool = False  # settings replaced the prompt of started
    is_hot_words_set: bool = False  # settings replaced its hot words
    prompt_tokens: tuple[int, ...] = ()
    heard_to: int = 0  # at the channel's rate
    utterance: int = -1
    utterance_start: int = 0
    is_open: bool = False
    window_start: int = 0
    audio: NDArray[np.int16] = field(default_factory=lambda: EMPTY)
    next_step: int = 0
    next_tentative: int = 0
    end: int | None = None  # end of the utterance once it is known
    committed: tuple[Committed, ...] = ()
    committed_end: int = 0
    speech_end: int = -1  # where speech was last heard; -1: nobody says
    paused_end: int = -1  # speech up to here was decoded in the pause behind it
    speech_start: int = -1  # in an utterance that begins at a break
    is_cut_off: bool = False  # the utterance does not end in silence
    settled_end: int = -1  # speech up to here is committed: a pass in the pause behind it was accepted
    memory: Memory = NO_MEMORY
    detected: tuple[str, float] | None = None  # language of the open utterance, not locked
    refusals: Mapping[str, int] = field(default_factory=dict)
    tail: str = ""
    behind: tuple[Draft, ...] = ()  # what is written when the open utterance is closed

    @property
    def ratio(self) -> int:
        """Return 16 kHz samples per sample of the channel."""
        return RATE // self.rate

    @property
    def audio_end(self) -> int:
        """Return the position of the end of the received audio."""
        return self.window_start + len(self.audio)

    @property
    def is_pause(self) -> bool:
        """Return whether the received audio ends in a pause of the speaker."""
        return 0 <= self.speech_end <= self.audio_end - PAUSE

    @property
    def is_settled(self) -> bool:
        """Return whether no speech was heard since an accepted pass in a pause."""
        return 0 <= self.speech_end <= self.settled_end

    @property
    def cut_off_end(self) -> int:
        """Return where speech was last heard of which not everything is committed, where the utterance is cut off; else -1."""
        if not self.is_cut_off or self.is_settled:
            return -1
        return self.audio_end if self.speech_end < 0 else self.speech_end

    @property
    def uncommitted_from(self) -> int:
        """Return the position behind the last committed word of the window."""
        return max(self.committed_end, self.window_start)


def listen(state: AsrState, record: CallSpeech, *, first_step: int, tentative: int) -> AsrState:
    """Return the state with one more piece of speech in its window. Raises PoisonError when it does not fit.

    ``first_step`` and ``tentative`` are the samples to the first passes of an utterance that begins here.
    """
    speech = record.speech
    if speech is None or len(speech.audio) % 2:
        raise PoisonError(f"speech record {record.sequence} has no usable audio")
    start = record.start_sample * state.ratio
    if not state.is_open:
        state = changed(
            state,
            utterance=speech.utterance,
            utterance_start=start,
            is_open=True,
            window_start=start,
            audio=EMPTY,
            next_step=start + first_step,
            next_tentative=start + tentative,
            end=None,
            committed=(),
            committed_end=start,
            speech_end=-1,
            speech_start=max(speech.speech_start_sample * state.ratio, -1) if speech.is_first else start,
            is_cut_off=False,
            paused_end=-1,
            settled_end=-1,
            memory=NO_MEMORY,
            detected=None,
            tail="",
        )
    if speech.utterance != state.utterance or start != state.audio_end:
        raise PoisonError(
            f"speech record {record.sequence} does not continue utterance {state.utterance} at sample {state.audio_end // state.ratio}"
        )
    audio = np.concatenate([state.audio, np.frombuffer(speech.audio, dtype="<i2").astype(np.int16)])
    end = state.window_start + len(audio)
    return changed(
        state,
        audio=audio,
        heard_to=end // state.ratio,
        end=end if speech.is_last else None,
        is_cut_off=speech.is_cut_off,
        speech_end=max(speech.speech_end_sample * state.ratio, -1),
    )


def skip(state: AsrState, record: CallSpeech) -> tuple[AsrState, tuple[Draft, ...]]:
    """Return the state behind a record without speech, and what is to be written of it: a watermark or a gap."""
    if record.kind == "watermark":
        state = changed(state, heard_to=max(state.heard_to, record.start_sample))
        return state, (Draft(kind="watermark", start_sample=record.start_sample),)
    if record.gap is None:
        return state, ()
    start = max(state.heard_to, record.start_sample)
    state = changed(state, heard_to=max(start, record.gap.end_sample))
    if start >= record.gap.end_sample:
        return state, ()
    return state, (Draft(kind="gap", start_sample=start, body={"gap": record.gap}),)


def cut(state: AsrState, position: int, *, window: int) -> AsrState:
    """Return the state without the audio of finished sentences, when the window up to ``position`` is longer than ``window``.

    Without a finished sentence it is cut behind the last committed word once it is twice as long.
    """
    length = position - state.window_start
    if length < window:
        return state
    ends = [index for index, word in enumerate(state.committed) if word.is_sentence_end]
    if not ends and length >= 2 * window and state.committed:
        ends = [len(state.committed) - 1]
    return cut_behind(state, ends[-1] + 1) if ends else state


def cut_behind(state: AsrState, count: int) -> AsrState:
    """Return the state whose window begins behind its first ``count`` committed words."""
    gone, kept = state.committed[:count], state.committed[count:]
    return cut_at(changed(state, committed=kept, prompt_tokens=remembered(state, gone)), gone[-1].end)


def cut_at(state: AsrState, position: int) -> AsrState:
    """Return the state whose window begins at ``position``."""
    start = max(state.window_start, min(position, state.audio_end))
    return changed(state, window_start=start, audio=state.audio[start - state.window_start :].copy())


def close(state: AsrState) -> AsrState:
    """Return the state behind the utterance."""
    return changed(
        state,
        is_open=False,
        behind=(),
        audio=EMPTY,
        end=None,
        committed=(),
        memory=NO_MEMORY,
        detected=None,
        tail="",
        prompt_tokens=remembered(state, state.committed),
    )


def remembered(state: AsrState, words: tuple[Committed, ...]) -> tuple[int, ...]:
    """Return the tokens that the next window gets as prompt when ``words`` leave this one."""
    limit = state.profile.prompt_tokens if state.profile else 0
    if not limit:
        return ()
    return (state.prompt_tokens + tuple(token for word in words for token in word.tokens))[-limit:]
