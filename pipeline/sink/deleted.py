"""What a call lacks whose records were deleted before they were stored, as rows. Pure.

Records are deleted from the front of the log: a call lacks its first records, or those of a stretch while the sink was away. Its account
(`pipeline.sink.coverage`) then has holes, and spans that name segments and gaps of which no row came. All of that becomes a gap, but for
what rows tell of that have lost their span.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pipeline.core.ids import CALL_CHANNEL
from pipeline.core.passing import DELETED, control_rate, start_before
from pipeline.sink.stores.base import CoverageRow, DegradedRow, GapRow, SegmentRow, StoredCall
from schemas.records import CallSegment, Channel, Degraded, Started

STAGE = "sink"
Rows = tuple[tuple[GapRow, ...], tuple[CoverageRow, ...]]


def made_up_start(record: CallSegment, started: Started) -> tuple[CallSegment, CallSegment]:
    """Return what stands for the deleted start of the call of ``record``, and the mark that the call lacks records."""
    start: CallSegment = start_before(record, started)
    mark = CallSegment(
        call_id=record.call_id,
        kind="degraded",
        channel=CALL_CHANNEL,
        sequence=0,
        start_sample=0,
        sample_rate_hz=control_rate(started),
        capture_time_ms=start.capture_time_ms,
        degraded=Degraded(stage=STAGE, reason=DELETED, topic="", partition=-1, offset=-1),
    )
    return start, mark


def is_marked(degraded: Iterable[DegradedRow]) -> bool:
    """Return whether a call is known to lack records."""
    return any((row.stage, row.reason) == (STAGE, DELETED) for row in degraded)


def missing(stored: StoredCall, end_samples: Mapping[str, int]) -> Rows:
    """Return the gaps of a call that ends at ``end_samples``, and the spans that account for them; the same for any repetition."""
    gaps: list[GapRow] = []
    coverage: list[CoverageRow] = []
    for channel in stored.call.channels:
        for old, new in _account(stored, channel, end_samples.get(str(channel.channel), 0)):
            coverage += [row for row in new if row not in old]
            gaps += [_gap(row) for row in new if row.kind == "gap" and not _is_told(stored.gaps, row)]
    return tuple(gaps), tuple(coverage)


def _account(
    stored: StoredCall, channel: Channel, end: int
) -> Iterator[tuple[tuple[CoverageRow, ...], tuple[CoverageRow, ...]]]:
    """Yield the spans of a channel as they are stored, and as they should be; holes have none."""
    segments = sorted((row for row in stored.segments if row.channel == channel.channel), key=_start)
    told = sorted((row for row in stored.gaps if row.channel == channel.channel), key=_start)
    rows = sorted((row for row in stored.coverage if row.channel == channel.channel), key=_start)

    def span(start: int, end: int, kind: str, reason: str) -> CoverageRow:
        return CoverageRow(
            call_id=stored.call.call_id,
            channel=channel.channel,
            start_sample=start,
            end_sample=end,
            sample_rate_hz=channel.sample_rate_hz,
            kind=kind,
            reason=reason,
        )

    def hole(start: int, end: int) -> tuple[CoverageRow, ...]:
        parts = [
            span(start, end, "segment", "") if is_backed else span(start, end, "gap", DELETED)
            for start, end, is_backed in _parts(start, end, segments)
        ]
        found: list[CoverageRow] = []
        for part in parts:
            inside = [] if part.kind == "segment" else _parts(part.start_sample, part.end_sample, told)
            found += [span(one, other, "gap", _reason(told, one)) for one, other, _ in inside] or [part]
        return tuple(found)

    position = channel.offset_samples
    for row in rows:
        if row.start_sample > position:
            yield (), hole(position, row.start_sample)
        yield (row,), hole(row.start_sample, row.end_sample) if row.kind == "segment" else (row,)
        position = max(position, row.end_sample)
    if position < end:
        yield (), hole(position, end)


def _parts(start: int, end: int, rows: Sequence[SegmentRow | GapRow]) -> list[tuple[int, int, bool]]:
    """Return the stretches from ``start`` to ``end`` in order, each with whether ``rows`` tell of it."""
    parts: list[tuple[int, int, bool]] = []
    for row in rows:
        first, last = max(start, row.start_sample), min(end, row.end_sample)
        if first < last:
            if start < first:
                parts.append((start, first, False))
            parts.append((first, last, True))
            start = last
    return [*parts, (start, end, False)] if start < end else parts


def _reason(gaps: Iterable[GapRow], sample: int) -> str:
    return next((row.reason for row in gaps if row.start_sample <= sample < row.end_sample), DELETED)


def _is_told(gaps: Iterable[GapRow], span: CoverageRow) -> bool:
    return any(
        row.channel == span.channel and row.start_sample <= span.start_sample and span.end_sample <= row.end_sample
        for row in gaps
    )


def _gap(span: CoverageRow) -> GapRow:
    return GapRow(
        call_id=span.call_id,
        channel=span.channel,
        start_sample=span.start_sample,
        end_sample=span.end_sample,
        sample_rate_hz=span.sample_rate_hz,
        reason=span.reason,
    )


def _start(row: SegmentRow | GapRow | CoverageRow) -> int:
    return row.start_sample
