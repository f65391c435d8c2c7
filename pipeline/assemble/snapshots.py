"""The state of a lane as it is recorded, in at most 4 kB: words are not in it, they are read again.

While words wait, and nothing is written and few records would have to be read again, nothing is recorded: an earlier state will do. Else
the state says which of the words that are read again wait for their segment, and which are in segments that may have to be corrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.assemble.account import Account, Stretch
from pipeline.assemble.state import AssembleState, Item, Owed, ReadAgain, heard, opened
from pipeline.core.contract import Lane, Snapshot
from pipeline.core.speakers import UNKNOWN
from schemas import records
from schemas.codec import decode_plain, encode_plain
from schemas.records import AssembleLane, CallAnnotation, Voices, WordRun

WRITER = "asr"
FEWEST_READ_AGAIN = 64  # asr records
RECORDED_EACH = 16  # asr records
LARGEST = 3_700  # bytes; what the flow adds makes it 4 kB


def snapshot(state: AssembleState) -> Snapshot | None:
    """Return the state; None where an earlier one will do, or where it is too large."""
    if state.read_again is not None:
        return None
    waiting = [*(one.items[0] for one in state.owed), *state.pending[:1]]
    if not waiting:
        data = encode_plain(_lane(state))
        return Snapshot(data=data) if len(data) <= LARGEST else None  # turns are far ahead of the words
    first = min(waiting, key=lambda item: item.index)
    is_far = state.heard_sequence - first.sequence >= FEWEST_READ_AGAIN
    if not (state.has_written or (is_far and state.heard_sequence % RECORDED_EACH == 0)):
        return None
    lane = replace(
        _lane(state),
        read_again_to=state.heard_sequence + 1,
        read_again_words=state.heard_words - first.first_index,
        pending=tuple(_runs(state.pending, first.first_index, state.gaps)),
        owed=tuple(_owed(one, first.first_index) for one in state.owed),
    )
    data = encode_plain(lane)
    return Snapshot(data=data, needed_sequence=first.sequence, needed_writer=WRITER) if len(data) <= LARGEST else None


def restored(lane: Lane, data: bytes) -> AssembleState:
    """Return the state of a snapshot; words that wait are in it when their records have been `read_again`."""
    saved = decode_plain(data, AssembleLane)
    fresh = opened(lane)
    again = ReadAgain(
        to_sequence=saved.read_again_to, count=saved.read_again_words, pending=saved.pending, owed=saved.owed
    )
    return replace(
        fresh,
        account=replace(
            fresh.account,
            accounted=saved.words_watermark if saved.accounted < 0 else saved.accounted,
            silent_to=saved.silent_to,
            spoken=saved.spoken,
            refused=saved.refused,
            waiting=tuple(_stretch(one) for one in saved.waiting),
        ),
        turns=saved.turns if fresh.is_mixed else fresh.turns,
        words_watermark=saved.words_watermark,
        turns_watermark=max(saved.turns_watermark, fresh.turns_watermark),
        turns_heard_to=saved.turns_heard_to,
        closed_utterance=saved.utterance,
        voices=saved.voices or Voices(),
        read_again=again if saved.read_again_to >= 0 else None,
    )


def read_again(state: AssembleState, record: CallAnnotation) -> AssembleState | None:
    """Take in a record that is read again; None when it is not one of those: then what has not come is gone."""
    again = state.read_again
    assert again is not None
    if record.kind == "ended" or record.stage != WRITER or record.sequence >= again.to_sequence:
        return None
    items = again.items
    if record.kind == "words" and record.words is not None:
        items += heard(replace(state, heard_words=len(items)), record.words, record.sequence)
    return replace(state, read_again=replace(again, items=items), heard_sequence=record.sequence)


def as_it_was(state: AssembleState) -> AssembleState:
    """Return the state with its words in their places; without those whose records have not come.

    Records are deleted from the front of a topic: what has come are the last words.
    """
    again = state.read_again
    assert again is not None
    missing = again.count - len(again.items)
    items = {
        item.index + missing: replace(item, index=item.index + missing, first_index=item.first_index + missing)
        for item in again.items
    }
    owed = [(run, _found(items, run)) for run in again.owed]
    pending = [replace(item, gaps=-run.gaps) for run in again.pending for item in _found(items, run)]
    return replace(
        state,
        pending=tuple(pending),
        owed=tuple(Owed(run.speaker or UNKNOWN, found) for run, found in owed if len(found) == run.count),
        heard_words=again.count,
        read_again=None,
    )


def _found(items: dict[int, Item], run: WordRun) -> tuple[Item, ...]:
    return tuple(items[index] for index in range(run.first, run.first + run.count) if index in items)


def _owed(one: Owed, first_index: int) -> WordRun:
    speaker = "" if one.speaker == UNKNOWN else one.speaker
    return WordRun(first=one.items[0].index - first_index, count=len(one.items), speaker=speaker)


def _runs(pending: Sequence[Item], first_index: int, gaps: int) -> Iterable[WordRun]:
    """Yield the pending words by the gaps that were before them."""
    start = 0
    for end in range(1, len(pending) + 1):
        if end == len(pending) or pending[end].gaps != pending[start].gaps:
            one = pending[start]
            yield WordRun(first=one.index - first_index, count=end - start, gaps=gaps - one.gaps)
            start = end


def _lane(state: AssembleState) -> AssembleLane:
    account: Account = state.account
    return AssembleLane(
        turns=state.turns,
        words_watermark=state.words_watermark,
        turns_watermark=state.turns_watermark,
        turns_heard_to=state.turns_heard_to,
        utterance=state.closed_utterance,
        accounted=account.accounted,
        silent_to=account.silent_to,
        spoken=account.spoken,
        refused=account.refused,
        waiting=tuple(_recorded(one) for one in account.waiting),
        voices=state.voices if state.voices != Voices() else None,
    )


def _recorded(one: Stretch) -> records.Stretch:
    return records.Stretch(
        kind=one.kind,
        start_sample=one.start,
        end_sample=one.end,
        reason=one.reason,
        utterance=one.utterance,
        speech_start_sample=one.speech_start,
        speech_end_sample=one.speech_end,
    )


def _stretch(one: records.Stretch) -> Stretch:
    return Stretch(
        one.kind,
        one.start_sample,
        one.end_sample,
        one.reason,
        utterance=one.utterance,
        speech_start=one.speech_start_sample,
        speech_end=one.speech_end_sample,
    )
