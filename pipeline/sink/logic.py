"""From records of ``call.segments`` to rows of the store, and how a change meets the call that is stored. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pipeline.core.ids import CALL_CHANNEL
from pipeline.core.passing import check_sequence
from pipeline.sink.stores.base import (
    Batch,
    CallChange,
    CallRow,
    CoverageRow,
    DegradedRow,
    EventRow,
    GapRow,
    SegmentRow,
    SpeakersRow,
    State,
)
from schemas.records import CallSegment, Coverage, Segment, Speakers, Started, Word

STATES: dict[str, State] = {"started": "live", "resumed": "live", "interrupted": "interrupted", "ended": "complete"}
EVENTS = ("hold", "dtmf", "transfer", "pause", "resume", "interrupted", "resumed", "ended")
FLOAT = struct.Struct("<f")


def plan(records: Iterable[CallSegment]) -> Batch:
    """Return what the store has to write for ``records``.

    Kinds this version does not know and kinds that say nothing to a reader (watermark, settings) only make their call
    known. The same records in any number of repeats lead to the same stored rows.
    """
    calls: list[CallChange] = []
    segments: list[SegmentRow] = []
    gaps: list[GapRow] = []
    degraded: list[DegradedRow] = []
    events: list[EventRow] = []
    coverage: list[CoverageRow] = []
    speakers: list[SpeakersRow] = []
    for record in records:
        calls.append(_change(record))
        if record.kind == "segment" and record.segment is not None:
            segments.append(_segment(record, record.segment))
        elif record.kind == "gap" and record.gap is not None:
            gaps.append(
                GapRow(
                    call_id=record.call_id,
                    channel=record.channel,
                    start_sample=record.start_sample,
                    end_sample=record.gap.end_sample,
                    sample_rate_hz=record.sample_rate_hz,
                    reason=_storable(record.gap.reason),
                )
            )
        elif record.kind == "degraded" and record.degraded is not None:
            degraded.append(
                DegradedRow(
                    call_id=record.call_id,
                    stage=_storable(record.degraded.stage),
                    topic=_storable(record.degraded.topic),
                    partition=record.degraded.partition,
                    offset=record.degraded.offset,
                    reason=_storable(record.degraded.reason),
                    channel=record.channel,
                    start_sample=record.start_sample,
                    sample_rate_hz=record.sample_rate_hz,
                )
            )
        elif record.kind == "coverage" and record.coverage is not None:
            coverage += _coverage(record, record.coverage)
        elif record.kind == "speakers" and record.speakers is not None:
            speakers.append(_speakers(record, record.speakers))
        elif record.kind in EVENTS:
            events.append(_event(record))
    return Batch(
        calls=tuple(calls),
        segments=tuple(segments),
        gaps=tuple(gaps),
        degraded=tuple(degraded),
        events=tuple(events),
        coverage=tuple(coverage),
        speakers=tuple(speakers),
    )


def merge(call: CallRow | None, change: CallChange) -> CallRow:
    """Return the call after ``change``.

    Control records of a call are numbered on channel -1, so a repeat of an older one (a re-read after a crash) leaves
    the call as it is: a complete call does not become live again because its start is read twice. A call has the channels that it
    has started with, whenever that is told. Raises PoisonError for a sequence so far ahead that
    every honest one behind it would be an older one.
    """
    known = call or CallRow(call_id=change.call_id)
    if change.started is not None and not known.channels:
        known = replace(
            known,
            tenant=change.started.tenant,
            channels=change.started.channels,
            attributes=change.started.attributes,
            started_ms=change.started.started_ms,
        )
    if change.state is None or change.sequence < known.sequence:
        return known
    check_sequence(change, known.sequence + 1)
    duration = _duration(known, change) if change.state == "complete" else None
    return replace(known, state=change.state, duration_seconds=duration, sequence=change.sequence)


def _duration(call: CallRow, change: CallChange) -> float | None:
    rates = {str(channel.channel): channel.sample_rate_hz for channel in call.channels}
    ends = [end / rates[channel] for channel, end in change.end_samples.items() if rates.get(channel)]
    return max(ends, default=change.end_seconds)


def _change(record: CallSegment) -> CallChange:
    state = STATES.get(record.kind) if record.channel == CALL_CHANNEL else None
    if state is None:
        return CallChange(call_id=record.call_id)
    return CallChange(
        call_id=record.call_id,
        sequence=record.sequence,
        state=state,
        started=None if record.started is None else _started(record, record.started),
        end_samples={} if record.ended is None else record.ended.end_samples,
        end_seconds=record.start_sample / record.sample_rate_hz if record.sample_rate_hz > 0 else None,
    )


def _started(record: CallSegment, started: Started) -> CallRow:
    return CallRow(
        call_id=record.call_id,
        tenant=None if started.tenant is None else _storable(started.tenant),
        channels=tuple(replace(channel, role=_storable(channel.role)) for channel in started.channels),
        attributes={_storable(name): _storable(value) for name, value in started.attributes.items()},
        started_ms=record.capture_time_ms,
    )


def _segment(record: CallSegment, segment: Segment) -> SegmentRow:
    return SegmentRow(
        call_id=record.call_id,
        channel=record.channel,
        start_sample=record.start_sample,
        revision=segment.revision,
        end_sample=segment.end_sample,
        sample_rate_hz=record.sample_rate_hz,
        role=_storable(segment.role),
        speaker=_storable(segment.speaker),
        text=_storable(segment.text),
        language=None if segment.language is None else _storable(segment.language),
        model=_storable(segment.model),
        policy=_storable(segment.policy),
        words=tuple(_word(word) for word in segment.words),
    )


def _coverage(record: CallSegment, coverage: Coverage) -> Iterable[CoverageRow]:
    start = record.start_sample
    for span in coverage.spans:
        yield CoverageRow(
            call_id=record.call_id,
            channel=record.channel,
            start_sample=start,
            end_sample=span.end_sample,
            sample_rate_hz=record.sample_rate_hz,
            kind=_storable(span.kind),
            reason=_storable(span.reason),
        )
        start = span.end_sample


def _speakers(record: CallSegment, speakers: Speakers) -> SpeakersRow:
    def storable(text: str | None) -> str | None:
        return None if text is None else _storable(text)

    return SpeakersRow(
        call_id=record.call_id,
        channel=record.channel,
        sequence=record.sequence,
        speakers=tuple(
            replace(
                one,
                speaker=_storable(one.speaker),
                role=storable(one.role),
                name=storable(one.name),
                rule=storable(one.rule),
            )
            for one in speakers.speakers
        ),
        unknown_words=speakers.unknown_words,
        corrected_words=speakers.corrected_words,
    )


def _word(word: Word) -> Word:
    # The wire carries probabilities as 32-bit floats; records that never were on the wire must give the same rows.
    return replace(word, text=_storable(word.text), probability=FLOAT.unpack(FLOAT.pack(word.probability))[0])


def _event(record: CallSegment) -> EventRow:
    content = getattr(record, record.kind, None)
    detail: dict[str, Any] = {} if content is None else content.to_avro()
    return EventRow(
        call_id=record.call_id,
        channel=record.channel,
        sequence=record.sequence,
        kind=record.kind,
        start_sample=record.start_sample,
        sample_rate_hz=record.sample_rate_hz,
        detail={name: _storable(value) if isinstance(value, str) else value for name, value in detail.items()},
    )


def _storable(text: str) -> str:
    # PostgreSQL has no NUL in text (manual, "Character Types"); both stores must hold the same.
    return text.replace("\x00", "\ufffd")
