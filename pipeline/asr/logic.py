"""Streaming recognition as pure logic: utterances in, committed words and a tentative tail out.

While an utterance is open, the window (its audio since the last cut) is decoded again at every step, a fixed number of samples
apart, with the committed tokens as forced prefix. The policy says which new words are final. The end of the utterance commits
the rest. Steps are a function of sample positions, so a replay commits the same words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.asr.guards import refused_by
from pipeline.asr.hypothesis import FRAME, AsrWork, Hypothesis, HypothesisWord
from pipeline.asr.policies.base import CommitPolicy, Memory
from pipeline.core.contract import Draft, Lane, Snapshot, Step
from pipeline.core.errors import PoisonError
from pipeline.core.languages import unknown_language
from pipeline.core.text import SENTENCE_ENDS, joined
from schemas.codec import decode_plain, encode_plain
from schemas.records import AsrLane, CallSpeech, Rejected, Speech, Tail, Word, Words

RATE = 16_000
MAX_PROMPT = 1_000  # characters kept of a prompt that settings bring; the decoder takes 224 tokens
MAX_HOT_WORDS = 1_000  # characters of all together
UTTERANCE_TAIL = 16_000  # behind the last word an utterance holds its hangover, which is no rejected speech
EMPTY: NDArray[np.int16] = np.zeros(0, dtype=np.int16)
NO_MEMORY = Memory()


@dataclass(frozen=True, slots=True, kw_only=True)
class AsrConfig:
    """Lengths in 16 kHz samples. ``model`` is name@digest as it appears in records."""

    model: str
    language: str
    step: int
    window: int
    prompt_tokens: int
    min_mean_log_probability: float


@dataclass(frozen=True, slots=True)
class _Committed:
    """A committed word that is still inside the window."""

    tokens: tuple[int, ...]
    end: int  # 16 kHz position
    is_sentence_end: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AsrState:
    """One lane. Positions count at 16 kHz."""

    rate: int
    utterance: int = -1
    heard_to: int = 0  # at the channel's rate
    is_open: bool = False
    window_start: int = 0
    audio: NDArray[np.int16] = field(default_factory=lambda: EMPTY)
    next_step: int = 0
    end: int | None = None  # end of the utterance once it is known
    committed: tuple[_Committed, ...] = ()
    committed_end: int = 0
    memory: Memory = NO_MEMORY
    tail: str = ""
    behind: tuple[Draft, ...] = ()  # what is written when the open utterance is closed
    prompt_tokens: tuple[int, ...] = ()
    language: str | None = None
    prompt: str | None = None
    hot_words: tuple[str, ...] = ()
    is_prompt_set: bool = False  # settings replaced the prompt of started
    is_hot_words_set: bool = False  # settings replaced its hot words

    @property
    def ratio(self) -> int:
        """Return 16 kHz samples per sample of the channel."""
        return RATE // self.rate

    @property
    def audio_end(self) -> int:
        """Return the 16 kHz position of the end of the received audio."""
        return self.window_start + len(self.audio)


class AsrLogic:
    """`pipeline.core.contract.LaneLogic` of the asr stage."""

    kinds = frozenset({"speech", "watermark", "gap"})
    controls = frozenset({"settings", "clear", "ended"})

    def __init__(self, config: AsrConfig, policy: CommitPolicy) -> None:
        self._config = config
        self._policy = policy

    def open(self, lane: Lane) -> AsrState:
        """Return the state of a lane that has heard nothing."""
        started = lane.started
        return AsrState(
            rate=lane.channel.sample_rate_hz,
            language=lane.channel.language,
            prompt=started.prompt,
            hot_words=started.hot_words,
        )

    def plan(self, state: AsrState, record: CallSpeech) -> Step[AsrState, AsrWork]:
        """Take in a piece of speech or a gap of the lane, or a control record of the call."""
        if record.kind == "speech":
            return self._next(self._listen(state, record))
        if record.kind == "settings" and record.settings is not None:
            change = record.settings
            return Step(
                replace(
                    state,
                    language=change.language or state.language,
                    prompt=state.prompt if change.prompt is None else change.prompt[-MAX_PROMPT:],
                    hot_words=state.hot_words if change.hot_words is None else _shortened(change.hot_words),
                    is_prompt_set=state.is_prompt_set or change.prompt is not None,
                    is_hot_words_set=state.is_hot_words_set or change.hot_words is not None,
                )
            )
        if record.kind == "clear":
            return Step(replace(state, prompt_tokens=()))
        behind: tuple[Draft, ...] = ()
        if record.kind == "watermark":
            behind = (Draft(kind="watermark", start_sample=record.start_sample),)
            state = replace(state, heard_to=max(state.heard_to, record.start_sample))
        elif record.gap is not None:
            start = min(max(state.heard_to, record.start_sample), record.gap.end_sample)
            behind = (Draft(kind="gap", start_sample=start, body={"gap": record.gap}),)
            state = replace(state, heard_to=record.gap.end_sample)
        if not state.is_open:
            return Step(state, behind)
        # The rest of the utterance was lost on the way: what was heard of it is decoded to its end.
        return self._next(replace(state, end=state.audio_end, behind=behind))

    def apply(self, state: AsrState, work: AsrWork, result: Hypothesis) -> Step[AsrState, AsrWork]:
        """Take in the hypothesis for ``work``."""
        position = state.window_start + len(work.audio)
        count, memory = self._policy.commit(result, frames=work.frames, is_final=work.is_final, memory=state.memory)
        fresh = result.words[:count]
        seconds = (position - max(state.committed_end, state.window_start)) / RATE
        guard = refused_by(
            fresh,
            seconds=seconds,
            min_mean_log_probability=self._config.min_mean_log_probability,
            no_speech_probability=result.no_speech_probability,
        )
        if guard is not None:
            fresh = ()
        words = _timed(state, fresh, work.frames, is_final=work.is_final)
        tail = joined(result.words[count:]) if guard is None and not work.is_final else ""
        state = replace(state, memory=memory, next_step=position + self._config.step)
        outputs: list[Draft] = []
        rejected: tuple[Rejected, ...] = ()
        begin = max(state.committed_end, state.window_start)
        if guard is not None and work.is_final and (not state.committed or position - begin > UTTERANCE_TAIL):
            rejected = (Rejected(start_sample=begin // state.ratio, end_sample=position // state.ratio, reason=guard),)
        if words or work.is_final:
            state = self._commit(state, words, fresh)
            outputs.append(self._words(state, words, rejected, position if work.is_final else None))
        if tail != state.tail and not work.is_final:
            outputs.append(
                Draft(
                    kind="tail",
                    start_sample=state.committed_end // state.ratio,
                    body={"tail": Tail(utterance=state.utterance, text=tail)},
                    counted=False,
                )
            )
        state = replace(state, tail=tail)
        if work.is_final:
            return Step(self._close(state), (*outputs, *state.behind))
        step = self._next(self._cut(state, position))
        return Step(step.state, (*outputs, *step.outputs), step.work)

    def snapshot(self, state: AsrState) -> Snapshot | None:
        """Return the state between utterances."""
        if state.is_open:
            return None
        lane = AsrLane(
            utterance=state.utterance,
            prompt_tokens=state.prompt_tokens,
            language=state.language,
            heard_to=state.heard_to,
            prompt=state.prompt if state.is_prompt_set else None,
            hot_words=state.hot_words if state.is_hot_words_set else None,
            model=self._config.model,
        )
        return Snapshot(data=encode_plain(lane))

    def restore(self, lane: Lane, data: bytes) -> AsrState:
        """Return the state of a snapshot. Tokens of another model are forgotten: they mean nothing to this one."""
        saved = decode_plain(data, AsrLane)
        return AsrState(
            rate=lane.channel.sample_rate_hz,
            utterance=saved.utterance,
            prompt_tokens=saved.prompt_tokens if saved.model == self._config.model else (),
            language=saved.language,
            heard_to=saved.heard_to,
            prompt=lane.started.prompt if saved.prompt is None else saved.prompt,
            hot_words=lane.started.hot_words if saved.hot_words is None else saved.hot_words,
            is_prompt_set=saved.prompt is not None,
            is_hot_words_set=saved.hot_words is not None,
        )

    # -- the window ----------------------------------------------------------------------------------------------

    def _listen(self, state: AsrState, record: CallSpeech) -> AsrState:
        """Return the state with one more piece of speech in its window."""
        speech = record.speech
        if speech is None or len(speech.audio) % 2:
            raise PoisonError(f"speech record {record.sequence} has no usable audio")
        start = record.start_sample * state.ratio
        if not state.is_open:
            state = self._begin(state, speech, start)
        if speech.utterance != state.utterance or start != state.audio_end:
            raise PoisonError(
                f"speech record {record.sequence} does not continue utterance {state.utterance} at sample {state.audio_end // state.ratio}"
            )
        audio = np.concatenate([state.audio, np.frombuffer(speech.audio, dtype="<i2").astype(np.int16)])
        end = state.window_start + len(audio)
        return replace(state, audio=audio, heard_to=end // state.ratio, end=end if speech.is_last else None)

    def _begin(self, state: AsrState, speech: Speech, start: int) -> AsrState:
        return replace(
            state,
            utterance=speech.utterance,
            is_open=True,
            window_start=start,
            audio=EMPTY,
            next_step=start + self._config.step,
            end=None,
            committed=(),
            committed_end=start,
            memory=NO_MEMORY,
            tail="",
        )

    def _next(self, state: AsrState) -> Step[AsrState, AsrWork]:
        """Return the step with the next window to decode, if there is audio for one."""
        if unknown_language(state.language or self._config.language):
            if state.end is None:
                return Step(state)
            span = Rejected(
                start_sample=state.window_start // state.ratio,
                end_sample=state.end // state.ratio,
                reason="unknown_language",
            )
            return Step(self._close(state), (self._words(state, (), (span,), state.end), *state.behind))
        if state.end is not None and state.next_step >= state.end:
            if state.audio_end - state.window_start < FRAME:
                draft = self._words(state, (), (), state.end)
                return Step(self._close(state), (draft, *state.behind))
            return Step(state, work=self._work(state, len(state.audio), True))
        if state.next_step <= state.audio_end:
            return Step(state, work=self._work(state, state.next_step - state.window_start, False))
        return Step(state)

    def _work(self, state: AsrState, length: int, is_final: bool) -> AsrWork:
        return AsrWork(
            audio=state.audio[:length],
            prefix=tuple(token for word in state.committed for token in word.tokens),
            prompt_tokens=state.prompt_tokens,
            prompt=state.prompt,
            hot_words=state.hot_words,
            language=state.language or self._config.language,
            is_final=is_final,
        )

    def _commit(self, state: AsrState, words: tuple[Word, ...], fresh: tuple[HypothesisWord, ...]) -> AsrState:
        if not words:
            return state
        added = tuple(
            _Committed(word.tokens, timed.end_sample * state.ratio, word.text.endswith(SENTENCE_ENDS))
            for word, timed in zip(fresh, words, strict=True)
        )
        return replace(state, committed=state.committed + added, committed_end=added[-1].end)

    def _cut(self, state: AsrState, position: int) -> AsrState:
        """Drop the audio of finished sentences when the window has grown long; their tokens become prompt."""
        if position - state.window_start < self._config.window:
            return state
        cuts = [index for index, word in enumerate(state.committed) if word.is_sentence_end]
        if not cuts and position - state.window_start >= 2 * self._config.window and state.committed:
            cuts = [len(state.committed) - 1]
        if not cuts:
            return state
        gone, kept = state.committed[: cuts[-1] + 1], state.committed[cuts[-1] + 1 :]
        cut = min(gone[-1].end, state.audio_end)
        return replace(
            state,
            window_start=cut,
            audio=state.audio[cut - state.window_start :].copy(),
            committed=kept,
            memory=NO_MEMORY,
            prompt_tokens=self._remember(state, gone),
        )

    def _close(self, state: AsrState) -> AsrState:
        return replace(
            state,
            is_open=False,
            behind=(),
            audio=EMPTY,
            end=None,
            committed=(),
            memory=NO_MEMORY,
            tail="",
            prompt_tokens=self._remember(state, state.committed),
        )

    def _remember(self, state: AsrState, words: tuple[_Committed, ...]) -> tuple[int, ...]:
        if not self._config.prompt_tokens:
            return ()
        return (state.prompt_tokens + tuple(token for word in words for token in word.tokens))[
            -self._config.prompt_tokens :
        ]

    def _words(
        self, state: AsrState, words: tuple[Word, ...], rejected: tuple[Rejected, ...], end: int | None
    ) -> Draft:
        watermark = (state.committed_end if end is None else end) // state.ratio
        body = Words(
            utterance=state.utterance,
            is_last=end is not None,
            words=words,
            rejected=rejected,
            watermark_sample=watermark,
            language=state.language or self._config.language,
            model=self._config.model,
            policy=self._policy.name,
        )
        return Draft(kind="words", start_sample=words[0].start_sample if words else watermark, body={"words": body})


def _timed(state: AsrState, fresh: tuple[HypothesisWord, ...], frames: int, *, is_final: bool) -> tuple[Word, ...]:
    """Return the words with sample positions at the channel's rate, within the audio, no two with the same start.

    The alignment gives silence before the first word to that word; like faster-whisper, a first word longer than twice the
    median word is shortened from its start. The last frame is kept free for a final word that attends to the very end.
    """
    words: list[Word] = []
    lengths = sorted(word.end_frame - word.frames[0] for word in fresh)
    longest = 2 * min(lengths[len(lengths) // 2], 35) if lengths else 0
    for index, word in enumerate(fresh):
        is_closing = is_final and index == len(fresh) - 1
        end_frame = min(word.end_frame, frames if is_closing else frames - 1)
        start_frame = min(word.frames[0], frames - 1)
        if index == 0 and not state.committed:
            start_frame = max(start_frame, end_frame - max(longest, 15))
        begin = words[-1].end_sample * state.ratio if words else state.committed_end
        start = max(state.window_start + start_frame * FRAME, begin)
        if words and start // state.ratio <= words[-1].start_sample:
            start = (words[-1].start_sample + 1) * state.ratio
        end = max(state.window_start + end_frame * FRAME, start)
        words.append(
            Word(
                text=word.text,
                start_sample=start // state.ratio,
                end_sample=end // state.ratio,
                probability=math.exp(sum(word.log_probabilities) / len(word.log_probabilities)),
                is_joined=word.is_joined,
            )
        )
    return tuple(words)


def _shortened(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the leading words that fit into the state of a lane."""
    lengths = accumulate(len(word) for word in words)
    return tuple(word for word, length in zip(words, lengths, strict=True) if length <= MAX_HOT_WORDS)


def make(settings: Any, *, model: str, policy: CommitPolicy, min_mean_log_probability: float) -> AsrLogic:
    """Return the logic for the ``asr`` section of the settings."""
    return AsrLogic(
        AsrConfig(
            model=model,
            language=settings.language,
            step=round(settings.step_seconds * RATE),
            window=round(settings.window_seconds * RATE),
            prompt_tokens=settings.prompt_tokens,
            min_mean_log_probability=min_mean_log_probability,
        ),
        policy,
    )
