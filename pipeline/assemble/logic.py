"""Words and turns become segments, as pure logic.

On a separate channel the speaker is the channel's role, and no word waits for diarization. On a mixed one a word waits until its speaker
is known: until the turns' watermark has passed it, or diarization has gone on for ``wait`` without naming anybody. How fast the
recogniser is decides nothing, until it is ``longest_wait`` ahead: from then on nothing waits, until diarization has come nearer.
What turns name later is a correction (`pipeline.assemble.segments`).
A segment closes at the end of an utterance, at a change of speaker, before speech that was refused, at the first sentence end after
``sentence`` samples, and at ``longest`` samples; never because of another channel. Positions count at the channel's rate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.assemble import snapshots
from pipeline.assemble.account import Stretch
from pipeline.assemble.segments import REACH_SECONDS, assembled, corrected
from pipeline.assemble.state import AssembleConfig, AssembleState, heard, opened
from pipeline.assemble.voices import Roles, at_the_end, is_other, recognised, speakers_of
from pipeline.core.contract import Draft, Lane, Snapshot, Step
from pipeline.core.passing import MISSING
from schemas.records import CallAnnotation, Coverage, Degraded, Ended, Gap, Span, Speakers, Turn, Turns, Words


class AssembleLogic:
    """`pipeline.core.contract.LaneLogic` of the assemble stage."""

    kinds = frozenset({"words", "turns", "watermark", "gap", "paused"})
    controls = frozenset({"ended"})

    def __init__(self, config: AssembleConfig) -> None:
        self._config = config

    def open(self, lane: Lane) -> AssembleState:
        """Return the state of a lane that has heard nothing."""
        return opened(lane)

    def plan(self, state: AssembleState, record: CallAnnotation) -> Step[AssembleState, Any]:
        """Take in words, turns or a watermark of the lane, or the end of the call."""
        state = replace(state, call_id=record.call_id)
        if state.read_again is not None:
            rebuilt = snapshots.read_again(state, record)
            if rebuilt is not None:
                return Step(rebuilt)
            state = snapshots.as_it_was(state)
        known = speakers_of(state.voices, self._config.roles, state.rate)
        if record.stage == snapshots.WRITER and record.kind != "ended":
            state = replace(state, heard_sequence=record.sequence)
        if record.stage == "diarize" and record.kind != "ended":
            state = replace(state, turns_heard_to=max(state.turns_heard_to, record.start_sample))
        before: list[Draft] = []
        after: list[Draft] = []
        if record.kind == "words" and record.words is not None:
            state = _listen(state, record.words, record.sequence)
            before += [_refused(rejected) for rejected in record.words.rejected]
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
        state, revisions = corrected(state, self._config, is_end=is_end)
        state, segments = assembled(state, self._config, is_end=is_end)
        state, coverage = _accounted(state, is_end)
        if record.ended is not None:
            coverage += _missing(state, record.ended)
        state, speakers = self._told(state, known, is_end=is_end)
        outputs = (*revisions, *segments, *before, *after, *coverage, *speakers)
        return Step(_forget(replace(state, has_written=bool(outputs))), outputs)

    def apply(self, state: AssembleState, work: Any, result: Any) -> Step[AssembleState, Any]:
        """Return the state unchanged: there is nothing to infer."""
        return Step(state)

    def snapshot(self, state: AssembleState) -> Snapshot | None:
        """Return the state; None while words wait, but for those who wait for long."""
        return snapshots.snapshot(state)

    def restore(self, lane: Lane, data: bytes) -> AssembleState:
        """Return the state of a snapshot."""
        return snapshots.restored(lane, data)

    def _told(self, state: AssembleState, known: Speakers, *, is_end: bool) -> tuple[AssembleState, tuple[Draft, ...]]:
        """Say what is known of the speakers where that is other than what was ``known``."""
        roles = self._config.roles
        if is_end:
            state = replace(state, voices=at_the_end(state.voices, roles))
        speakers = speakers_of(state.voices, roles, state.rate)
        if not (is_other(known, speakers) or (is_end and state.voices.is_untold)):
            return state, ()
        draft = Draft(kind="speakers", start_sample=state.words_watermark, body={"speakers": speakers})
        return replace(state, voices=replace(state.voices, is_untold=False)), (draft,)


def _listen(state: AssembleState, words: Words, sequence: int) -> AssembleState:
    """Return the state with more words that wait."""
    return replace(
        state,
        pending=state.pending + heard(state, words, sequence),
        heard_words=state.heard_words + len(words.words),
        words_watermark=max(state.words_watermark, words.watermark_sample),
        # What was lost in the middle of an utterance ends it; what follows belongs together again.
        closed_utterance=words.utterance if words.is_last else min(state.closed_utterance, words.utterance - 1),
        account=state.account.hear(words),
    )


def _refused(rejected: Any) -> Draft:
    body = Degraded(
        stage="asr", reason=f"rejected_text:{rejected.reason}", topic="", partition=-1, offset=rejected.start_sample
    )
    return Draft(kind="degraded", start_sample=rejected.start_sample, body={"degraded": body})


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


def _name(state: AssembleState, said: Turns) -> AssembleState:
    """Return the state that knows more turns; those of a separate channel are known from the start, whatever comes when."""
    if not state.is_mixed:
        return state
    return replace(
        state,
        turns=_merge(state.turns, said.turns),
        turns_watermark=max(state.turns_watermark, said.watermark_sample),
        voices=recognised(state.voices, said.identities),
    )


def _merge(turns: tuple[Turn, ...], added: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Return the turns with new ones added; a turn with a known start and speaker is extended."""
    known = {(turn.start_sample, turn.speaker): turn for turn in turns}
    known |= {(turn.start_sample, turn.speaker): turn for turn in added}
    return tuple(sorted(known.values(), key=lambda turn: (turn.start_sample, turn.speaker)))


def _forget(state: AssembleState) -> AssembleState:
    """Drop turns that end before every word that may still come."""
    waiting = [*state.pending, *(one.items[0] for one in state.owed)]
    oldest = min([state.words_watermark, *(item.word.start_sample for item in waiting)])
    oldest -= round(REACH_SECONDS * state.rate)
    return replace(
        state, turns=tuple(turn for turn in state.turns if turn.end_sample is None or turn.end_sample > oldest)
    )


def make(settings: Any) -> AssembleLogic:
    """Return the logic for the ``assemble`` section of the settings."""
    return AssembleLogic(
        AssembleConfig(
            sentence_seconds=settings.sentence_seconds,
            longest_seconds=settings.max_segment_seconds,
            wait_seconds=settings.speaker_wait_seconds,
            longest_wait_seconds=settings.longest_speaker_wait_seconds,
            roles=Roles(
                rule=settings.role_rule,
                first_role=settings.first_role,
                other_role=settings.other_role,
                phrases=settings.role_phrases,
            ),
        )
    )
