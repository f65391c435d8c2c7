"""What the assemble stage keeps of one lane. Positions count at the channel's rate."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.assemble.account import Account
from pipeline.assemble.voices import Roles
from pipeline.core.contract import Lane
from pipeline.core.speakers import MIXED, UNBOUNDED, open_turn
from schemas.records import Turn, Voices, Word, WordRun, Words


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembleConfig:
    """Lengths in seconds of audio."""

    sentence_seconds: float
    longest_seconds: float
    wait_seconds: float
    longest_wait_seconds: float = 600.0
    roles: Roles = field(default_factory=Roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A word with what its utterance says about it, and how many gaps were before it.

    ``sequence`` is that of its record, ``index`` counts the lane's words, ``first_index`` is that of the first word of its record.
    """

    word: Word
    utterance: int
    words: Words
    gaps: int
    sequence: int
    index: int
    first_index: int

    @property
    def part(self) -> tuple[int, int]:
        """Return what it shares a segment with: the utterance, up to a gap in it."""
        return self.utterance, self.gaps


@dataclass(frozen=True, slots=True)
class Owed:
    """A segment whose speaker may still turn out to be another than it was published under."""

    speaker: str
    items: tuple[Item, ...]

    @property
    def end(self) -> int:
        """Return the end of its last word."""
        return self.items[-1].word.end_sample


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAgain:
    """Words of the state that are read again: those of asr records below ``to_sequence``, ``count`` of them."""

    to_sequence: int
    count: int
    pending: tuple[WordRun, ...]
    owed: tuple[WordRun, ...]
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AssembleState:
    """One lane. ``closed_utterance`` is the last utterance whose words have all arrived.

    ``pending`` are the words that wait for their segment, ``owed`` the segments that were published before diarization had come to them.
    """

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
    pending: tuple[Item, ...] = ()
    owed: tuple[Owed, ...] = ()
    gaps: int = 0
    account: Account
    voices: Voices = field(default_factory=Voices)
    heard_sequence: int = -1  # of the last asr record
    heard_words: int = 0
    has_written: bool = False  # anything, in the last step
    read_again: ReadAgain | None = None

    @property
    def is_mixed(self) -> bool:
        """Return whether several speakers are on the channel."""
        return self.role == MIXED


def opened(lane: Lane) -> AssembleState:
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


def heard(state: AssembleState, words: Words, sequence: int) -> tuple[Item, ...]:
    """Return the words of an asr record as items, behind those that the lane has heard."""
    return tuple(
        Item(
            word=word,
            utterance=words.utterance,
            words=words,
            gaps=state.gaps,
            sequence=sequence,
            index=state.heard_words + number,
            first_index=state.heard_words,
        )
        for number, word in enumerate(words.words)
    )
