"""The transcript of one call as people and programs read it: seconds from the start of the call, in reading order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.core.ids import segment_id
from pipeline.sink.logic import merge, plan
from pipeline.sink.stores.base import CallRow, DegradedRow, GapRow, SegmentRow, SpeakersRow, State, StoredCall
from pipeline.sink.stores.tables import DEGRADED, GAPS, SEGMENTS, SPEAKERS, latest
from schemas.records import CallSegment, Word

PROBABILITY_DIGITS = 4
SECONDS_DIGITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptWord:
    """One word. ``is_joined``: no space before it."""

    text: str
    start_seconds: float
    end_seconds: float
    probability: float
    is_joined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptSegment:
    """Words of one turn, the highest revision."""

    segment_id: str
    revision: int
    channel: int
    role: str
    speaker: str
    start_seconds: float
    end_seconds: float
    text: str
    language: str | None
    model: str
    policy: str
    words: tuple[TranscriptWord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptChannel:
    """One audio leg."""

    channel: int
    role: str
    language: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptGap:
    """Audio that never came or could not be used."""

    channel: int
    start_seconds: float
    end_seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptDegraded:
    """A record of the call that could not be used; ``start_seconds`` is None where its place is not known."""

    channel: int
    start_seconds: float | None
    stage: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptSpeaker:
    """A speaker of a mixed channel. ``role`` and ``name`` are None while nobody knows them, ``rule`` says what the role rests on."""

    channel: int
    speaker: str
    role: str | None
    name: str | None
    rule: str | None
    spoken_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One call. Segments and gaps are ordered by (start, channel); nothing depends on wall-clock time.

    ``duration_seconds`` is None until the call has ended. ``speakers`` are those of mixed channels, by first appearance.
    """

    call_id: str
    state: State
    duration_seconds: float | None
    channels: tuple[TranscriptChannel, ...]
    segments: tuple[TranscriptSegment, ...]
    gaps: tuple[TranscriptGap, ...]
    degraded: tuple[TranscriptDegraded, ...]
    speakers: tuple[TranscriptSpeaker, ...] = ()

    @classmethod
    def from_stored(cls, stored: StoredCall) -> Transcript:
        """Return the transcript of the rows of one call, in any order."""
        segments = [_segment(row) for row in stored.segments]
        gaps = [_gap(row) for row in stored.gaps]
        degraded = [_degraded(row) for row in stored.degraded]
        return cls(
            call_id=stored.call.call_id,
            state=stored.call.state,
            duration_seconds=stored.call.duration_seconds,
            channels=tuple(
                TranscriptChannel(channel=channel.channel, role=channel.role, language=channel.language)
                for channel in sorted(stored.call.channels, key=lambda channel: channel.channel)
            ),
            segments=tuple(sorted(segments, key=lambda segment: (segment.start_seconds, segment.channel))),
            gaps=tuple(sorted(gaps, key=lambda gap: (gap.start_seconds, gap.channel))),
            degraded=tuple(
                sorted(degraded, key=lambda one: (one.start_seconds or 0.0, one.channel, one.stage, one.reason))
            ),
            speakers=tuple(
                one for row in sorted(stored.speakers, key=lambda row: row.channel) for one in _speakers(row)
            ),
        )

    @classmethod
    def from_records(cls, records: Iterable[CallSegment]) -> Transcript:
        """Return the transcript of the records of one call, as if they had gone through a store.

        Raises ValueError when there are no records, or records of several calls.
        """
        batch = plan(records)
        call: CallRow | None = None
        for change in batch.calls:
            if call is not None and change.call_id != call.call_id:
                raise ValueError("records of several calls")
            call = merge(call, change)
        if call is None:
            raise ValueError("no records")
        return cls.from_stored(
            StoredCall(
                call=call,
                segments=latest(SEGMENTS, batch.segments),
                gaps=latest(GAPS, batch.gaps),
                degraded=latest(DEGRADED, batch.degraded),
                speakers=latest(SPEAKERS, batch.speakers),
            )
        )

    @property
    def names(self) -> Mapping[tuple[int, str], str]:
        """Return what people are shown instead of a speaker's label, by channel and label: the name, or else the role.

        Who shares it with another speaker of the channel keeps the label behind it.
        """
        shown = {(one.channel, one.speaker): one.name or one.role for one in self.speakers}
        count = Counter((channel, name) for (channel, _), name in shown.items())
        return {
            (channel, label): name if count[channel, name] == 1 else f"{name} ({label})"
            for (channel, label), name in shown.items()
            if name
        }

    def to_document(self) -> dict[str, Any]:
        """Return the transcript as JSON values, in the shape that contracts of the command line fix."""
        document = {
            "call_id": self.call_id,
            "state": self.state,
            "duration_seconds": self.duration_seconds,
            "channels": [asdict(channel) for channel in self.channels],
            "segments": [segment_document(segment) for segment in self.segments],
            "gaps": [asdict(gap) for gap in self.gaps],
            "degraded": [asdict(degraded) for degraded in self.degraded],
        }
        return document | ({"speakers": [asdict(one) for one in self.speakers]} if self.speakers else {})


def segment_document(segment: TranscriptSegment) -> dict[str, Any]:
    """Return one element of ``segments`` as JSON values."""
    return asdict(segment) | {"words": [word_document(word) for word in segment.words]}


def word_document(word: TranscriptWord) -> dict[str, Any]:
    """Return one element of ``words`` as JSON values."""
    document = asdict(word)
    del document["is_joined"]
    return document


def segment_of_record(record: CallSegment) -> TranscriptSegment | None:
    """Return the segment of one record, None when the record is of another kind."""
    rows = plan((record,)).segments
    return _segment(rows[0]) if rows else None


def seconds(sample: int, sample_rate_hz: int) -> float:
    """Return the time of a sample position: seconds since the start of the call; 0 where no rate is known.

    >>> seconds(3360, 8000)
    0.42
    """
    return sample / sample_rate_hz if sample_rate_hz > 0 else 0.0


def word_of(word: Word, sample_rate_hz: int) -> TranscriptWord:
    """Return a word of a record whose positions count at ``sample_rate_hz``."""
    return TranscriptWord(
        text=word.text,
        start_seconds=seconds(word.start_sample, sample_rate_hz),
        end_seconds=seconds(word.end_sample, sample_rate_hz),
        probability=round(word.probability, PROBABILITY_DIGITS),
        is_joined=word.is_joined,
    )


def _segment(row: SegmentRow) -> TranscriptSegment:
    return TranscriptSegment(
        segment_id=segment_id(row.call_id, row.channel, row.start_sample),
        revision=row.revision,
        channel=row.channel,
        role=row.role,
        speaker=row.speaker,
        start_seconds=seconds(row.start_sample, row.sample_rate_hz),
        end_seconds=seconds(row.end_sample, row.sample_rate_hz),
        text=row.text,
        language=row.language,
        model=row.model,
        policy=row.policy,
        words=tuple(word_of(word, row.sample_rate_hz) for word in row.words),
    )


def _gap(row: GapRow) -> TranscriptGap:
    return TranscriptGap(
        channel=row.channel,
        start_seconds=seconds(row.start_sample, row.sample_rate_hz),
        end_seconds=seconds(row.end_sample, row.sample_rate_hz),
        reason=row.reason,
    )


def _speakers(row: SpeakersRow) -> Iterable[TranscriptSpeaker]:
    for one in row.speakers:
        yield TranscriptSpeaker(
            channel=row.channel,
            speaker=one.speaker,
            role=one.role,
            name=one.name,
            rule=one.rule,
            spoken_seconds=round(one.spoken_seconds, SECONDS_DIGITS),
        )


def _degraded(row: DegradedRow) -> TranscriptDegraded:
    is_placed = row.sample_rate_hz > 0
    return TranscriptDegraded(
        channel=row.channel,
        start_seconds=seconds(row.start_sample, row.sample_rate_hz) if is_placed else None,
        stage=row.stage,
        reason=row.reason,
    )
