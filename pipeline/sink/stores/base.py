"""What a store keeps, as frozen rows, and what every store can do.

Rows hold sample positions (samples since the start of the call at ``sample_rate_hz``); readers derive seconds.
Each row has a deterministic identity, so that writing the same records again changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from schemas.records import Channel, Speaker, Word

State = Literal["live", "complete", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """One call. Identity: ``call_id``.

    ``sequence`` is the position of the last control record that changed the call (-1: none yet); an older one never
    changes it again. ``started_ms`` is wall-clock time for people and never part of a transcript.
    """

    call_id: str
    tenant: str | None = None
    state: State = "live"
    channels: tuple[Channel, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    duration_seconds: float | None = None
    started_ms: int | None = None
    sequence: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow:
    """Closed words of one turn. Identity: ``(call_id, channel, start_sample)``; the highest revision wins."""

    call_id: str
    channel: int
    start_sample: int
    revision: int
    end_sample: int
    sample_rate_hz: int
    role: str
    speaker: str
    text: str
    language: str | None
    model: str
    policy: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRow:
    """Audio that never came or could not be used. Identity: ``(call_id, channel, start_sample)``."""

    call_id: str
    channel: int
    start_sample: int
    end_sample: int
    sample_rate_hz: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DegradedRow:
    """A record that could not be used. Identity: call, stage, and coordinates of the rejected record.

    ``channel`` is -1 and ``sample_rate_hz`` may be 0 where the record's place in the call is not known.
    """

    call_id: str
    stage: str
    topic: str
    partition: int
    offset: int
    reason: str
    channel: int
    start_sample: int
    sample_rate_hz: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something that happened in the call: hold, dtmf, transfer, pause, resume, interrupted, resumed, ended.

    Identity: ``(call_id, channel, sequence, kind)``. ``detail`` holds the fields of the kind.
    """

    call_id: str
    channel: int
    sequence: int
    kind: str
    start_sample: int
    sample_rate_hz: int
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRow:
    """What became of a stretch of a channel. Identity: ``(call_id, channel, start_sample)``. Kinds are those of `schemas.records.Span`."""

    call_id: str
    channel: int
    start_sample: int
    end_sample: int
    sample_rate_hz: int
    kind: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakersRow:
    """The speakers of a mixed channel. Identity: ``(call_id, channel)``; the record with the highest ``sequence`` says it all."""

    call_id: str
    channel: int
    sequence: int
    speakers: tuple[Speaker, ...]
    unknown_words: int
    corrected_words: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallChange:
    """What one record says about the call as a whole; `pipeline.sink.logic.merge` applies it.

    A change with only a ``call_id`` makes sure the call is known. ``end_samples`` is by channel index as text;
    ``end_seconds`` is the position of the record itself, used where no channel is known.
    """

    call_id: str
    sequence: int = -1
    state: State | None = None
    started: CallRow | None = None
    end_samples: Mapping[str, int] = field(default_factory=dict)
    end_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Everything one transaction writes, in record order."""

    calls: tuple[CallChange, ...] = ()
    segments: tuple[SegmentRow, ...] = ()
    gaps: tuple[GapRow, ...] = ()
    degraded: tuple[DegradedRow, ...] = ()
    events: tuple[EventRow, ...] = ()
    coverage: tuple[CoverageRow, ...] = ()
    speakers: tuple[SpeakersRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCall:
    """All rows of one call, read in one snapshot; segments and gaps by position, events by sequence."""

    call: CallRow
    segments: tuple[SegmentRow, ...] = ()
    gaps: tuple[GapRow, ...] = ()
    degraded: tuple[DegradedRow, ...] = ()
    events: tuple[EventRow, ...] = ()
    coverage: tuple[CoverageRow, ...] = ()
    speakers: tuple[SpeakersRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSummary:
    """One line of ``callscribe calls``; ``degraded`` holds the distinct ``stage: reason`` of the call, sorted."""

    call: CallRow
    segment_count: int
    gap_count: int
    degraded: tuple[str, ...]


class Store(Protocol):
    """Where transcripts are kept. Safe to use from several threads; one write at a time.

    Every method raises NotReadyError while the store cannot be reached; the next call tries a new connection.
    """

    @property
    def uri(self) -> str:
        """Return where the store is, without a password."""

    def write(self, batch: Batch) -> None:
        """Write ``batch`` in one transaction: all of it, or nothing.

        Raises PoisonError when the store can never take these rows, NotReadyError when it may later.
        """

    def calls(self, *, state: State | None = None, limit: int | None = None) -> tuple[CallSummary, ...]:
        """Return the newest ``limit`` calls, oldest first."""

    def read(self, call_id: str) -> StoredCall | None:
        """Return all rows of a call, None when the store does not know it."""

    def standing(self, call_ids: Collection[str]) -> tuple[StoredCall, ...]:
        """Return the row of each call that the store knows, and what degrades it; nothing else of it."""

    def check(self) -> None:
        """Write, and change nothing: a store that is read-only or full is one nobody can tell by reading."""

    def close(self) -> None:
        """Release the connection."""
