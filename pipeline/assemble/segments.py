"""Words become segments, and segments that diarization has come to late are corrected. Pure; positions count at the channel's rate.

A segment of a mixed channel that is published before the turns' watermark has passed it has the speaker that is known until then, often
none. What it is owed is settled when the watermark has passed it, when as much audio again has gone by as its words may wait for, or when
the call ends. Where the turns then say otherwise there is a revision: the leading words of one speaker keep the id, the words of the next
are a segment of their own, and so on. Each part reaches to the start of the next, so that together they cover what the segment covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.assemble.state import AssembleConfig, AssembleState, Item, Owed
from pipeline.assemble.voices import spoke
from pipeline.core.contract import Draft
from pipeline.core.ids import segment_id
from pipeline.core.speakers import UNBOUNDED, UNKNOWN
from pipeline.core.text import SENTENCE_ENDS, joined
from schemas.records import Segment, Turn, Voices, Word

REACH_SECONDS = 0.5  # recognisers place the last word of a turn late: it is the turn's all the same
MOST_OWED = 256  # segments of a lane; the state has room for no more
Parts = list[tuple[str, tuple[Item, ...]]]


def assembled(state: AssembleState, config: AssembleConfig, *, is_end: bool) -> tuple[AssembleState, list[Draft]]:
    """Close every segment that can be closed."""
    pending, owed = state.pending, state.owed
    segments: list[Draft] = []
    speakers = _speakers(state, config, is_end=is_end)
    while pending:
        count = _closable(state, config, pending, speakers)
        if not count:
            break
        items, speaker = pending[:count], speakers[0]
        start, end = items[0].word.start_sample, items[-1].word.end_sample
        segments.append(_segment(state, items, speaker, end=end))
        state = replace(state, account=state.account.close(start, end))
        is_late = end > state.turns_watermark
        if is_late and speaker == UNKNOWN:
            state = replace(state, voices=_counted(state.voices, unknown=count))
        if is_late and not is_end:
            owed = (*owed, Owed(speaker, items))
        else:
            state = _told(state, config, speaker, items, end=end)
        pending, speakers = pending[count:], speakers[count:]
    return replace(state, pending=pending, owed=owed), segments


def corrected(state: AssembleState, config: AssembleConfig, *, is_end: bool) -> tuple[AssembleState, list[Draft]]:
    """Settle who has spoken the segments that are owed, as far as nothing more will be said of it."""
    settled_to = UNBOUNDED if is_end else _settled_to(state, config)
    owed: list[Owed] = []
    segments: list[Draft] = []
    for index, one in enumerate(state.owed):
        if one.end > settled_to and index >= len(state.owed) - MOST_OWED:
            owed.append(one)
            continue
        parts = _parts(state.turns, one.items, state.rate)
        is_right = [speaker for speaker, _ in parts] == [one.speaker]
        for number, (speaker, items) in enumerate(parts, start=1):
            end = one.end if number == len(parts) else parts[number][1][0].word.start_sample
            if not is_right:
                segments.append(_segment(state, items, speaker, end=end, revision=1))
            if one.speaker == UNKNOWN != speaker:
                state = replace(state, voices=_counted(state.voices, corrected=len(items)))
            state = _told(state, config, speaker, items, end=end)
    return (replace(state, owed=tuple(owed)) if len(owed) < len(state.owed) else state), segments


def _speakers(state: AssembleState, config: AssembleConfig, *, is_end: bool) -> list[str]:
    """Return the speaker of each leading word, up to the first that is not known yet."""
    wait = round(config.wait_seconds * state.rate)
    known_to = max(state.turns_watermark, state.turns_heard_to - wait)
    if is_end or state.words_watermark - known_to > round(config.longest_wait_seconds * state.rate):
        known_to = UNBOUNDED
    speakers: list[str] = []
    for item in state.pending:
        if item.word.end_sample > known_to:
            break
        speakers.append(speaker_of(state.turns, item.word, state.rate))
    return speakers


def _settled_to(state: AssembleState, config: AssembleConfig) -> int:
    """Return up to where nothing more is said of speakers, or is waited for."""
    wait = round(config.wait_seconds * state.rate)
    longest = round(config.longest_wait_seconds * state.rate)
    return max(state.turns_watermark, state.turns_heard_to - wait - longest, state.words_watermark - 2 * longest)


def _closable(state: AssembleState, config: AssembleConfig, pending: Sequence[Item], speakers: Sequence[str]) -> int:
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
        if index and length > config.longest_seconds:
            return index
        if length >= config.sentence_seconds and item.word.text.endswith(SENTENCE_ENDS):
            return index + 1
    is_whole = len(speakers) == len(pending) and pending[0].utterance <= state.closed_utterance
    return len(speakers) if is_whole else 0


def _parts(turns: Sequence[Turn], items: Sequence[Item], rate: int) -> Parts:
    """Return the words by speaker. One without length stays with the word before it: its start may be that of the next segment."""
    parts: Parts = []
    for item in items:
        speaker = speaker_of(turns, item.word, rate)
        has_length = item.word.end_sample > item.word.start_sample
        if parts and (speaker == parts[-1][0] or not has_length):
            parts[-1] = (parts[-1][0], (*parts[-1][1], item))
        else:
            parts.append((speaker, (item,)))
    return parts


def speaker_of(turns: Sequence[Turn], word: Word, rate: int) -> str:
    """Return the speaker of the turn that overlaps the word most, or that ended last within `REACH_SECONDS` before it; else unknown.

    Of turns that begin behind a word nobody knows whether they have been said yet: they never count.
    """
    best, longest = UNKNOWN, 0
    word_end = max(word.end_sample, word.start_sample + 1)
    for turn in turns:
        end = word_end if turn.end_sample is None else min(turn.end_sample, word_end)
        overlap = end - max(turn.start_sample, word.start_sample)
        if overlap > longest:
            best, longest = turn.speaker, overlap
    if longest:
        return best
    reach = word.start_sample - round(REACH_SECONDS * rate)
    before = [
        (turn.end_sample, turn.speaker)
        for turn in turns
        if turn.end_sample is not None and reach <= turn.end_sample <= word.start_sample
    ]
    return max(before)[1] if before else UNKNOWN


def _told(
    state: AssembleState, config: AssembleConfig, speaker: str, items: Sequence[Item], *, end: int
) -> AssembleState:
    """Return the state that has heard a speaker of a mixed channel say these words."""
    if not state.is_mixed:
        return state
    words = [item.word for item in items]
    voices = spoke(
        state.voices,
        config.roles,
        speaker,
        start=words[0].start_sample,
        end=end,
        words=words,
        rate=state.rate,
    )
    return replace(state, voices=voices)


def _counted(voices: Voices, *, unknown: int = 0, corrected: int = 0) -> Voices:
    return replace(
        voices,
        unknown_words=voices.unknown_words + unknown,
        corrected_words=voices.corrected_words + corrected,
        is_untold=True,
    )


def _segment(state: AssembleState, items: Sequence[Item], speaker: str, *, end: int, revision: int = 0) -> Draft:
    first, words = items[0], tuple(item.word for item in items)
    segment = Segment(
        segment_id=segment_id(state.call_id, state.channel, first.word.start_sample),
        revision=revision,
        end_sample=end,
        role=state.role,
        speaker=speaker,
        text=joined(words),
        language=first.words.language,
        model=first.words.model,
        policy=first.words.policy,
        words=words,
    )
    return Draft(kind="segment", start_sample=first.word.start_sample, body={"segment": segment})
