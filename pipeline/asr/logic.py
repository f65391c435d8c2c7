"""Streaming recognition as pure logic: utterances in, committed words and a tentative tail out.

While an utterance is open, the window (its audio since the last cut) is decoded again at every step, a fixed number of samples
apart, with the committed tokens as forced prefix. The policy says which new words are final, the guards which are none. The end
of the utterance commits the rest. Steps are a function of sample positions, so a replay commits the same words. Between two steps
there may be tentative passes, which change nothing but the tail and may be skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pipeline.asr.guards import Evidence, heard, mean_of, refused_by
from pipeline.asr.hypothesis import FRAME, AsrWork, Hypothesis, HypothesisWord
from pipeline.asr.policies import policy_of
from pipeline.asr.profiles import Catalogue
from pipeline.asr.state import PAUSE_KEPT, RATE, AsrState, Committed, close, cut, cut_at, cut_behind, listen, skip
from pipeline.asr.timing import timed
from pipeline.core.contract import Draft, Lane, Snapshot, Step
from pipeline.core.frozen import changed
from pipeline.core.languages import unknown_language
from pipeline.core.passing import CRASHED
from pipeline.core.recognition import AUTOMATIC, TASKS
from pipeline.core.text import SENTENCE_ENDS, joined
from schemas.codec import decode_plain, encode_plain
from schemas.records import AsrLane, CallSpeech, Rejected, Tail, Word, Words

MAX_PROMPT = 1_000  # characters kept of a prompt that settings bring; the decoder takes 224 tokens
MAX_HOT_WORDS = 1_000  # characters of all together
UTTERANCE_TAIL = 16_000  # behind the last word an utterance holds its hangover, which is no rejected speech
DETECTION = 40_000  # a language is locked on 2.5 s of an utterance: 2 s of speech, its pre-roll and a pause
LONGEST_WINDOW = 28 * RATE  # what fits into the encoder's 30 s together with padding


@dataclass(frozen=True, slots=True, kw_only=True)
class AsrConfig:
    """What the deployment says for calls that say nothing. Lengths in 16 kHz samples; ``tentative`` 0: no such passes."""

    language: str
    task: str = "transcribe"
    window: int
    tentative: int = 0
    longest: int = LONGEST_WINDOW
    disabled_guards: tuple[str, ...] = ()


class AsrLogic:
    """`pipeline.core.contract.LaneLogic` of the asr stage."""

    kinds = frozenset({"speech", "watermark", "gap"})
    controls = frozenset({"settings", "clear", "ended"})

    def __init__(self, config: AsrConfig, catalogue: Catalogue) -> None:
        self._config = config
        self._catalogue = catalogue

    def open(self, lane: Lane) -> AsrState:
        """Return the state of a lane that has heard nothing."""
        started = lane.started
        profile = self._catalogue.find(started.model)
        return AsrState(
            rate=lane.channel.sample_rate_hz,
            profile=profile,
            policy=None if profile is None else policy_of(profile, started.policy),
            task=started.task or self._config.task,
            language=lane.channel.language,
            prompt=started.prompt,
            hot_words=started.hot_words,
        )

    def plan(self, state: AsrState, record: CallSpeech) -> Step[AsrState, AsrWork]:
        """Take in a piece of speech or a gap of the lane, or a control record of the call."""
        if record.kind == "speech":
            first = self._step_of(state)
            if self._language(state) == AUTOMATIC:
                first = max(first, DETECTION)
            tentative = self._config.tentative
            return self._next(listen(state, record, first_step=first, tentative=tentative))
        if record.kind == "settings" and record.settings is not None:
            change = record.settings
            return Step(
                changed(
                    state,
                    language=change.language or state.language,
                    language_probability=None if change.language else state.language_probability,
                    prompt=state.prompt if change.prompt is None else change.prompt[-MAX_PROMPT:],
                    hot_words=state.hot_words if change.hot_words is None else _shortened(change.hot_words),
                    is_prompt_set=state.is_prompt_set or change.prompt is not None,
                    is_hot_words_set=state.is_hot_words_set or change.hot_words is not None,
                )
            )
        if record.kind == "clear":
            return Step(changed(state, prompt_tokens=()))
        state, behind = skip(state, record)
        if not state.is_open:
            return Step(state, behind)
        # The rest of the utterance was lost on the way: what was heard of it is decoded to its end.
        return self._next(changed(state, end=state.audio_end, is_cut_off=True, behind=behind))

    def abandon(self, state: AsrState, record: CallSpeech) -> Step[AsrState, AsrWork]:
        """Refuse what no word was committed of, up to the end of the record; an utterance that goes on behind it opens anew."""
        behind: tuple[Draft, ...] = ()
        if record.kind == "speech":
            state = listen(state, record, first_step=0, tentative=0)
        else:
            state, behind = skip(state, record)
        if not state.is_open:
            return Step(state, behind)
        start, end = state.uncommitted_from, state.audio_end
        rejected = (_rejected(state, start, end, CRASHED),) if start < end else ()
        draft = self._words(state, (), rejected, end)
        # The committed words were part of what the decoder did not survive.
        return Step(changed(close(state), refusals={}, prompt_tokens=()), (draft, *behind))

    def apply(self, state: AsrState, work: AsrWork, result: Hypothesis | None) -> Step[AsrState, AsrWork]:
        """Take in the hypothesis for ``work``; None when an optional pass was skipped."""
        position = state.window_start + len(work.audio)
        if work.is_optional:
            return self._tentative(state, work, result, position)
        if result is None or state.policy is None:
            raise AssertionError("a committing pass cannot be skipped")
        is_pause = not work.is_final and position == state.audio_end and state.is_pause
        is_end = work.is_final or len(work.audio) >= self._config.longest  # nothing of this audio is heard again
        # Text that only the decoder's limit has ended may run in a loop: of it the policy alone says what is safe.
        is_whole = (is_end or is_pause) and not result.is_capped
        count, memory = state.policy.commit(result, frames=work.frames, is_final=is_whole, memory=state.memory)
        evidence = self._evidence(state, work)
        fresh, guard = _accepted(result, count, evidence)
        if not is_end and _is_doubtful(state, result):
            fresh, guard = (), "unsure"
        state = self._detected(state, work, result, evidence)
        words = timed(state, fresh, work.frames, is_closing=is_end)
        state = _commit(state, words, fresh)
        if guard is not None:
            state = changed(state, refusals={**state.refusals, guard: state.refusals.get(guard, 0) + 1})
        rejected: tuple[Rejected, ...] = ()
        if guard is not None and is_end:
            refused_from = state.uncommitted_from
            if not state.committed or position - refused_from > UTTERANCE_TAIL:
                rejected = (_rejected(state, refused_from, position, guard),)
        outputs: list[Draft] = []
        if words or rejected or work.is_final:
            outputs.append(self._words(state, words, rejected, position if work.is_final else None))
            state = changed(state, refusals={})
        if work.is_final:
            return Step(close(state), (*outputs, *state.behind))
        tail = joined(result.words[count:]) if guard is None else ""
        if tail != state.tail:
            outputs.append(_tail(state, tail))
        state = changed(
            state,
            memory=memory,
            tail=tail,
            next_step=position + self._step_of(state),
            next_tentative=position + self._config.tentative,
            paused_end=state.speech_end if is_pause else state.paused_end,
            settled_end=state.speech_end
            if is_pause and guard is None and count == len(result.words)
            else state.settled_end,
        )
        step = self._next(self._shortened(state, result, position))
        return Step(step.state, (*outputs, *step.outputs), step.work)

    def snapshot(self, state: AsrState) -> Snapshot | None:
        """Return the state between utterances."""
        if state.is_open:
            return None
        lane = AsrLane(
            utterance=state.utterance,
            prompt_tokens=state.prompt_tokens,
            language=state.language,
            language_probability=state.language_probability,
            heard_to=state.heard_to,
            prompt=state.prompt if state.is_prompt_set else None,
            hot_words=state.hot_words if state.is_hot_words_set else None,
            model="" if state.profile is None else state.profile.revision,
        )
        return Snapshot(data=encode_plain(lane))

    def restore(self, lane: Lane, data: bytes) -> AsrState:
        """Return the state of a snapshot. Tokens of another model are forgotten: they mean nothing to this one."""
        saved = decode_plain(data, AsrLane)
        fresh = self.open(lane)
        is_same = fresh.profile is not None and saved.model == fresh.profile.revision
        return changed(
            fresh,
            utterance=saved.utterance,
            prompt_tokens=saved.prompt_tokens if is_same else (),
            language=saved.language,
            language_probability=saved.language_probability,
            heard_to=saved.heard_to,
            prompt=fresh.prompt if saved.prompt is None else saved.prompt,
            hot_words=fresh.hot_words if saved.hot_words is None else saved.hot_words,
            is_prompt_set=saved.prompt is not None,
            is_hot_words_set=saved.hot_words is not None,
        )

    # -- passes --------------------------------------------------------------------------------------------------

    def _next(self, state: AsrState) -> Step[AsrState, AsrWork]:
        """Return the step with the next window to decode, if there is audio for one."""
        if problem := self._problem(state):
            if state.end is None:
                return Step(state)
            span = _rejected(state, state.window_start, state.end, problem)
            return Step(close(state), (self._words(state, (), (span,), state.end), *state.behind))
        if state.end is not None and state.end - state.window_start <= self._config.longest:
            if state.is_settled or state.end - state.window_start < FRAME:
                draft = self._words(state, (), (), state.end)
                return Step(close(changed(state, refusals={})), (draft, *state.behind))
            return Step(state, work=self._work(state, state.end, is_final=True))
        if state.is_settled:
            return Step(changed(state, next_step=max(state.next_step, state.audio_end + FRAME)))
        if state.is_pause and state.paused_end < state.speech_end:
            return Step(state, work=self._work(state, state.audio_end))
        if state.next_step <= state.audio_end:
            return Step(state, work=self._work(state, state.next_step))
        if self._config.tentative and state.next_tentative <= state.audio_end:
            return Step(state, work=self._work(state, state.next_tentative, is_optional=True))
        return Step(state)

    def _work(self, state: AsrState, position: int, *, is_final: bool = False, is_optional: bool = False) -> AsrWork:
        language = self._language(state)
        return AsrWork(
            audio=state.audio[: position - state.window_start],
            prefix=tuple(token for word in state.committed for token in word.tokens),
            prompt_tokens=state.prompt_tokens,
            prompt=state.prompt,
            hot_words=state.hot_words,
            language=None if language == AUTOMATIC else language,
            model="" if state.profile is None else state.profile.name,
            task=state.task,
            is_final=is_final,
            is_optional=is_optional,
        )

    def _tentative(
        self, state: AsrState, work: AsrWork, result: Hypothesis | None, position: int
    ) -> Step[AsrState, AsrWork]:
        """Return the step behind a pass that shows the tail and commits nothing."""
        state = changed(state, next_tentative=position + self._config.tentative)
        tail = state.tail
        if result is not None and refused_by(result, result.words, self._evidence(state, work)) is None:
            tail = joined(result.words)
        outputs = (_tail(state, tail),) if tail != state.tail else ()
        step = self._next(changed(state, tail=tail))
        return Step(step.state, (*outputs, *step.outputs), step.work)

    def _shortened(self, state: AsrState, result: Hypothesis, position: int) -> AsrState:
        """Return the state with its window cut where nothing before is needed, or where it has grown too long."""
        whole = cut_behind(state, len(state.committed)) if state.committed else state
        if position - state.window_start >= self._config.longest:
            return cut_at(whole, position)
        if state.is_settled and (not state.committed or state.committed[-1].is_sentence_end):
            return cut_at(whole, position - PAUSE_KEPT)
        if result.is_capped and not result.words and state.committed:
            return whole
        return cut(state, position, window=self._config.window)

    def _detected(self, state: AsrState, work: AsrWork, result: Hypothesis, evidence: Evidence) -> AsrState:
        """Return the state with the language that the pass has detected: locked when there was enough speech."""
        if work.language is not None or result.language is None:
            return state
        if not result.words or refused_by(result, result.words, evidence) is not None:
            return state
        if len(work.audio) < DETECTION:
            return changed(state, detected=(result.language, result.language_probability or 0.0))
        return changed(state, language=result.language, language_probability=result.language_probability)

    # -- what is in force ----------------------------------------------------------------------------------------

    def _language(self, state: AsrState) -> str:
        return state.language or self._config.language

    def _step_of(self, state: AsrState) -> int:
        return RATE if state.profile is None else round(state.profile.step_seconds * RATE)

    def _problem(self, state: AsrState) -> str | None:
        """Return why the lane cannot be recognised, None when it can."""
        if state.profile is None:
            return "unknown_model"
        if state.policy is None:
            return "unknown_policy"
        if state.task not in TASKS:
            return "unknown_task"
        language = self._language(state)
        if language == AUTOMATIC:
            return None
        is_known = unknown_language(language) is None
        is_taught = not state.profile.languages or language in state.profile.languages
        return None if is_known and is_taught else "unknown_language"

    def _evidence(self, state: AsrState, work: AsrWork) -> Evidence:
        assert state.profile is not None
        return Evidence(
            audio=work.audio,
            begin=state.uncommitted_from - state.window_start,
            before=[word.text for word in state.committed],
            prompt=" ".join([*work.hot_words, work.prompt or ""]).strip(),
            min_mean_log_probability=state.profile.min_mean_log_probability,
            sure_log_probability=state.profile.sure_log_probability,
            disabled=self._config.disabled_guards,
        )

    def _words(
        self, state: AsrState, words: tuple[Word, ...], rejected: tuple[Rejected, ...], end: int | None
    ) -> Draft:
        watermark = (state.committed_end if end is None else end) // state.ratio
        language, probability = self._language(state), state.language_probability
        body = Words(
            utterance=state.utterance,
            start_sample=state.utterance_start // state.ratio,
            is_last=end is not None,
            speech_start_sample=state.speech_start // state.ratio,
            speech_end_sample=-1 if end is None else state.cut_off_end // state.ratio,
            words=words,
            rejected=rejected,
            refusals=state.refusals,
            watermark_sample=watermark,
            language=language if language != AUTOMATIC else state.detected[0] if state.detected else None,
            language_probability=state.detected[1] if language == AUTOMATIC and state.detected else probability,
            task=state.task,
            model="" if state.profile is None else state.profile.revision,
            policy="" if state.policy is None else state.policy.name,
        )
        return Draft(kind="words", start_sample=words[0].start_sample if words else watermark, body={"words": body})


def _accepted(result: Hypothesis, count: int, evidence: Evidence) -> tuple[tuple[HypothesisWord, ...], str | None]:
    """Return which of the leading ``count`` words may be committed, and the guard that objects to others."""
    fresh = result.words[:count]
    guard = refused_by(result, fresh, evidence)
    if guard is not None:
        return (), guard
    audible = heard(fresh, evidence)
    if audible < len(fresh):
        return fresh[:audible], "silence"
    return fresh, "token_limit" if result.is_capped else None


def _is_doubtful(state: AsrState, result: Hypothesis) -> bool:
    """Return whether the text had better wait for more audio; the first moments behind a pause are often misheard."""
    return bool(result.words and state.profile and mean_of(result.words) < state.profile.sure_log_probability)


def _commit(state: AsrState, words: tuple[Word, ...], fresh: tuple[HypothesisWord, ...]) -> AsrState:
    if not words:
        return state
    added = tuple(
        Committed(word.text, word.tokens, placed.end_sample * state.ratio, word.text.endswith(SENTENCE_ENDS))
        for word, placed in zip(fresh, words, strict=True)
    )
    return changed(state, committed=state.committed + added, committed_end=added[-1].end)


def _tail(state: AsrState, text: str) -> Draft:
    body = Tail(utterance=state.utterance, text=text)
    return Draft(kind="tail", start_sample=state.committed_end // state.ratio, body={"tail": body}, counted=False)


def _rejected(state: AsrState, start: int, end: int, reason: str) -> Rejected:
    return Rejected(start_sample=start // state.ratio, end_sample=end // state.ratio, reason=reason)


def _shortened(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the leading words that fit into the state of a lane."""
    lengths = accumulate(len(word) for word in words)
    return tuple(word for word, length in zip(words, lengths, strict=True) if length <= MAX_HOT_WORDS)


def make(settings: Any, catalogue: Catalogue) -> AsrLogic:
    """Return the logic for the ``asr`` section of the settings."""
    return AsrLogic(
        AsrConfig(
            language=settings.language,
            task=settings.task,
            window=round(settings.window_seconds * RATE),
            tentative=round(settings.tentative_seconds * RATE),
            disabled_guards=settings.disabled_guards,
        ),
        catalogue,
    )
