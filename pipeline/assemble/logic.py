"""Words and turns become segments, as pure logic.

On a separate channel the speaker is the channel's role, and no word waits for diarization. On a mixed one a word waits until its speaker
is known: until the turns' watermark has passed it, or diarization has gone on for ``wait`` without naming anybody. How fast the
recogniser is decides nothing, until it is ``longest_wait`` ahead: from then on nothing waits, until diarization has come nearer.
A segment closes at the end of an utterance, at a change of speaker, before speech that was refused, at the first sentence end after
``sentence`` samples, and at ``longest`` samples; never because of another channel. Positions count at the channel's rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.assemble.account import Account, Stretch
from pipeline.core.contract import Draft, Lane, Snapshot, Step
from pipeline.core.ids import segment_id
from pipeline.core.passing import MISSING
from pipeline.core.speakers import MIXED, UNBOUNDED, UNKNOWN, open_turn
from pipeline.core.text import SENTENCE_ENDS, joined
from schemas.codec import decode_plain, encode_plain
from schemas.records import (
    AssembleLane,
    CallAnnotation,
    Coverage,
    Degraded,
    Ended,
    Gap,
    Segment,
    Span,
    Turn,
    Turns,
    Word,
    Words,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembleConfig:
    """Lengths in seconds of audio."""

    sentence_seconds: float
    longest_seconds: float
    wait_seconds: float
    longest_wait_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class _Pending:
    """A word that is not in a segment yet, with what its utterance says about it, and how many gaps were before it."""

    word: Word
    utterance: int
    words: Words
    gaps: int

    @property
    def part(self) -> tuple[int, int]:
        """Return what it shares a segment with: the utterance, up to a gap in it."""
        return self.utterance, self.gaps


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AssembleState:
    """One lane. ``closed_utterance`` is the last utterance whose words have all arrived."""

    call_id: str = ""
    channel: int
    role: str
    rate: int
    turns: tuple[Turn, ...] = ()
    words_watermark: int = 0
    turns_watermark: int = 0
    turns_heard_to: int = (
        0  # how far diarize has come: the wait for a speaker counts on its clock, not on the recogniser's
    )
    closed_utterance: int = -1
    pending: tuple[_Pending, ...] = ()
    gaps: int = 0
    account: Account


class AssembleLogic:
    """`pipeline.core.contract.LaneLogic` of the assemble stage."""

    kinds = frozenset({"words", "turns", "watermark", "gap", "paused"})
    controls = frozenset({"ended"})

    def __init__(self, config: AssembleConfig) -> None:
        self._config = config

    def open(self, lane: Lane) -> AssembleState:
        """Return the state of a lane that has heard nothing."""
        channel = lane.channel
        is_mixed = channel.role == MIXED
        return AssembleState(
            channel=channel.channel,
            role=channel.role,
            rate=channel.sample_rate_hz,
            turns=() if is_mixed else (open_turn(channel),),
            turns_watermark=0 if is_mixed else UNBOUNDED,
            account=Account(rate=channel.sample_rate_hz, accounted=channel.offset_samples),
        )

    def plan(self, state: AssembleState, record: CallAnnotation) -> Step[AssembleState, Any]:
        """Take in words, turns or a watermark of the lane, or the end of the call."""
        state = replace(state, call_id=record.call_id)
        if record.stage == "diarize" and record.kind != "ended":
            state = replace(state, turns_heard_to=max(state.turns_heard_to, record.start_sample))
        before: list[Draft] = []
        after: list[Draft] = []
        if record.kind == "words" and record.words is not None:
            state = self._listen(state, record.words)
            before += [self._refused(rejected, state) for rejected in record.words.rejected]
        elif record.kind == "turns" and record.turns is not None:
            state = _name(state, record.turns)
        elif record.kind == "watermark" and record.stage == "diarize":
            state = replace(state, turns_watermark=max(state.turns_watermark, record.start_sample))
        elif record.kind == "watermark":
            state = replace(
                state,
                words_watermark=max(state.words_watermark, record.start_sample),
                closed_utterance=_last_utterance(state),
                account=state.account.quiet(record.start_sample),
            )
            after.append(Draft(kind="watermark", start_sample=record.start_sample))
        elif record.gap is not None and record.stage == "asr":
            start = max(record.start_sample, state.account.heard_to)
            if start < record.gap.end_sample:
                stretch = Stretch(record.kind, start, record.gap.end_sample, reason=record.gap.reason)
                if record.kind == "gap":
                    after.append(Draft(kind="gap", start_sample=start, body={"gap": record.gap}))
                state = replace(state, gaps=state.gaps + 1, account=state.account.behind(stretch))
            state = replace(state, closed_utterance=_last_utterance(state))
        is_end = record.kind == "ended"
        if is_end:
            state = replace(state, closed_utterance=_last_utterance(state))
        state, segments = self._assemble(state, is_end)
        state, coverage = _accounted(state, is_end)
        if record.ended is not None:
            coverage += _missing(state, record.ended)
        return Step(_forget(state), (*segments, *before, *after, *coverage))

    def apply(self, state: AssembleState, work: Any, result: Any) -> Step[AssembleState, Any]:
        """Return the state unchanged: there is nothing to infer."""
        return Step(state)

    def snapshot(self, state: AssembleState) -> Snapshot | None:
        """Return the state while no word waits for its segment."""
        if state.pending:
            return None
        lane = AssembleLane(
            turns=state.turns,
            words_watermark=state.words_watermark,
            turns_watermark=state.turns_watermark,
            turns_heard_to=state.turns_heard_to,
            utterance=state.closed_utterance,
            accounted=state.account.accounted,
            silent_to=state.account.silent_to,
            spoken=state.account.spoken,
            refused=state.account.refused,
        )
        return Snapshot(data=encode_plain(lane))

    def restore(self, lane: Lane, data: bytes) -> AssembleState:
        """Return the state of a snapshot."""
        saved = decode_plain(data, AssembleLane)
        fresh = self.open(lane)
        return replace(
            fresh,
            account=replace(
                fresh.account,
                accounted=saved.words_watermark if saved.accounted < 0 else saved.accounted,
                silent_to=saved.silent_to,
                spoken=saved.spoken,
                refused=saved.refused,
            ),
            turns=saved.turns if fresh.role == MIXED else fresh.turns,
            words_watermark=saved.words_watermark,
            turns_watermark=max(saved.turns_watermark, fresh.turns_watermark),
            turns_heard_to=saved.turns_heard_to,
            closed_utterance=saved.utterance,
        )

    # -- inside --------------------------------------------------------------------------------------------------

    def _listen(self, state: AssembleState, words: Words) -> AssembleState:
        added = tuple(_Pending(word, words.utterance, words, state.gaps) for word in words.words)
        return replace(
            state,
            pending=state.pending + added,
            words_watermark=max(state.words_watermark, words.watermark_sample),
            # What was lost in the middle of an utterance ends it; what follows belongs together again.
            closed_utterance=words.utterance if words.is_last else min(state.closed_utterance, words.utterance - 1),
            account=state.account.hear(words),
        )

    def _refused(self, rejected: Any, state: AssembleState) -> Draft:
        body = Degraded(
            stage="asr", reason=f"rejected_text:{rejected.reason}", topic="", partition=-1, offset=rejected.start_sample
        )
        return Draft(kind="degraded", start_sample=rejected.start_sample, body={"degraded": body})

    def _assemble(self, state: AssembleState, is_end: bool) -> tuple[AssembleState, list[Draft]]:
        """Close every segment that can be closed."""
        pending = state.pending
        segments: list[Draft] = []
        while pending:
            speakers = self._speakers(state, pending, is_end)
            count = self._closable(state, pending, speakers)
            if not count:
                break
            speaker = speakers[0]
            assert speaker is not None
            segments.append(_segment(state, pending[:count], speaker))
            start, end = pending[0].word.start_sample, pending[count - 1].word.end_sample
            state = replace(state, account=state.account.close(start, end))
            pending = pending[count:]
        return replace(state, pending=pending), segments

    def _speakers(self, state: AssembleState, pending: Sequence[_Pending], is_end: bool) -> list[str | None]:
        """Return the speaker of each leading word, up to the first that is not known yet."""
        wait = round(self._config.wait_seconds * state.rate)
        longest_wait = round(self._config.longest_wait_seconds * state.rate)
        known_to = max(state.turns_watermark, state.turns_heard_to - wait)
        if state.words_watermark - known_to > longest_wait:
            known_to = UNBOUNDED
        speakers: list[str | None] = []
        for item in pending:
            if is_end or item.word.end_sample <= known_to:
                speakers.append(_speaker(state.turns, item.word))
            else:
                break
        return speakers

    def _closable(self, state: AssembleState, pending: Sequence[_Pending], speakers: Sequence[str | None]) -> int:
        """Return how many leading words make a closed segment; 0 when it may still grow."""
        start = pending[0].word.start_sample
        for index in range(len(speakers)):
            item = pending[index]
            length = (item.word.end_sample - start) / state.rate
            if index and speakers[index] != speakers[0]:
                return index
            if index and item.part != pending[0].part:
                return index
            if index and state.account.is_refused(pending[index - 1].word.start_sample, item.word.start_sample):
                return index
            if index and length > self._config.longest_seconds:
                return index
            if length >= self._config.sentence_seconds and item.word.text.endswith(SENTENCE_ENDS):
                return index + 1
        is_whole = len(speakers) == len(pending) and pending[0].utterance <= state.closed_utterance
        return len(speakers) if is_whole else 0


def _accounted(state: AssembleState, is_end: bool) -> tuple[AssembleState, tuple[Draft, ...]]:
    """Return the state, and the account of what nothing more will be said of."""
    first = state.pending[0] if state.pending else None
    account, spans = state.account.settle(
        first.utterance if first else None, is_end=is_end, open_from=first.word.start_sample if first else 0
    )
    if not spans:
        return replace(state, account=account), ()
    draft = Draft(kind="coverage", start_sample=state.account.accounted, body={"coverage": Coverage(spans=spans)})
    return replace(state, account=account), (draft,)


def _missing(state: AssembleState, ended: Ended) -> tuple[Draft, ...]:
    """Return the gap up to the end of the channel, where what came last was lost: no record behind it shows a hole."""
    start, end = state.account.accounted, ended.end_samples.get(str(state.channel), 0)
    if start >= end:
        return ()
    span = Span(end_sample=end, kind="gap", reason=MISSING)
    return (
        Draft(kind="gap", start_sample=start, body={"gap": Gap(end_sample=end, reason=MISSING)}),
        Draft(kind="coverage", start_sample=start, body={"coverage": Coverage(spans=(span,))}),
    )


def _last_utterance(state: AssembleState) -> int:
    return max([state.closed_utterance, *(item.utterance for item in state.pending)])


def _speaker(turns: Sequence[Turn], word: Word) -> str:
    """Return the speaker of the turn that overlaps the word most; unknown when none does."""
    best, longest = UNKNOWN, 0
    for turn in turns:
        end = word.end_sample if turn.end_sample is None else min(turn.end_sample, word.end_sample)
        overlap = (
            max(end, word.start_sample + 1) - max(turn.start_sample, word.start_sample)
            if end >= word.start_sample
            else 0
        )
        if overlap > longest:
            best, longest = turn.speaker, overlap
    return best


def _name(state: AssembleState, said: Turns) -> AssembleState:
    """Return the state that knows more turns; those of a separate channel are known from the start, whatever comes when."""
    if state.role != MIXED:
        return state
    watermark = max(state.turns_watermark, said.watermark_sample)
    return replace(state, turns=_merge(state.turns, said.turns), turns_watermark=watermark)


def _merge(turns: tuple[Turn, ...], added: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Return the turns with new ones added; a turn with a known start and speaker is extended."""
    known = {(turn.start_sample, turn.speaker): turn for turn in turns}
    known |= {(turn.start_sample, turn.speaker): turn for turn in added}
    return tuple(sorted(known.values(), key=lambda turn: (turn.start_sample, turn.speaker)))


def _forget(state: AssembleState) -> AssembleState:
    """Drop turns that end before every word that may still come."""
    oldest = min([state.words_watermark, *(item.word.start_sample for item in state.pending)])
    return replace(
        state, turns=tuple(turn for turn in state.turns if turn.end_sample is None or turn.end_sample > oldest)
    )


def _segment(state: AssembleState, items: Sequence[_Pending], speaker: str) -> Draft:
    first, words = items[0], tuple(item.word for item in items)
    text = joined(words)
    segment = Segment(
        segment_id=segment_id(state.call_id, state.channel, first.word.start_sample),
        revision=0,
        end_sample=words[-1].end_sample,
        role=state.role,
        speaker=speaker,
        text=text,
        language=first.words.language,
        model=first.words.model,
        policy=first.words.policy,
        words=words,
    )
    return Draft(kind="segment", start_sample=first.word.start_sample, body={"segment": segment})


def make(settings: Any) -> AssembleLogic:
    """Return the logic for the ``assemble`` section of the settings."""
    return AssembleLogic(
        AssembleConfig(
            sentence_seconds=settings.sentence_seconds,
            longest_seconds=settings.max_segment_seconds,
            wait_seconds=settings.speaker_wait_seconds,
            longest_wait_seconds=settings.longest_speaker_wait_seconds,
        )
    )
