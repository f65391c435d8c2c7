"""The account of a call's samples, read from the store and checked: every accepted sample is in exactly one span.

The spans come from the stages (`pipeline.assemble.account`), the number of samples from the feed (``ended.end_samples``), segments and
gaps from rows of their own; where they contradict each other, `Coverage.problems` says so: a span of words or of a gap must have its
rows, and every row its span.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.sink.stores.base import CoverageRow, StoredCall
from pipeline.sink.transcript import seconds
from schemas.records import Channel

KINDS = ("segment", "non_speech", "refused", "gap", "paused")
PAUSED = "paused"
COMPLETE = "complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageSpan:
    """A stretch of one channel; neighbours of the same kind and reason are one. Positions are samples since the start of the call."""

    kind: str
    reason: str
    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelCoverage:
    """One channel. ``accepted_samples`` is what the feed said it had taken in, None while the call has not ended."""

    channel: int
    role: str
    sample_rate_hz: int
    accepted_samples: int | None
    spans: tuple[CoverageSpan, ...]
    problems: tuple[str, ...]

    @property
    def totals(self) -> dict[str, int]:
        """Return the samples of every kind."""
        totals = dict.fromkeys(KINDS, 0)
        for span in self.spans:
            totals[span.kind] = totals.get(span.kind, 0) + span.end_sample - span.start_sample
        return totals

    @property
    def covered_samples(self) -> int:
        """Return how many accepted samples are in a span; what was paused was not accepted."""
        return sum(self.totals.values()) - self.totals[PAUSED]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """One call."""

    call_id: str
    state: str
    channels: tuple[ChannelCoverage, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what does not add up, channel by channel; empty when everything does."""
        if self.state == COMPLETE and not self.channels:
            return ("no channel is known: what the call started with is not stored",)
        return tuple(problem for channel in self.channels for problem in channel.problems)

    def to_document(self) -> dict[str, Any]:
        """Return the account as JSON values."""
        return {
            "call_id": self.call_id,
            "state": self.state,
            "adds_up": not self.problems,
            "channels": [
                {
                    "channel": one.channel,
                    "role": one.role,
                    "sample_rate_hz": one.sample_rate_hz,
                    "accepted_samples": one.accepted_samples,
                    "covered_samples": one.covered_samples,
                    "totals": {
                        kind: {"samples": samples, "seconds": round(seconds(samples, one.sample_rate_hz), 3)}
                        for kind, samples in one.totals.items()
                    },
                    "problems": list(one.problems),
                    "spans": [asdict(span) for span in one.spans],
                }
                for one in self.channels
            ],
        }

    def to_text(self) -> str:
        """Return the totals and the verdict, for people."""
        lines = [f"call {self.call_id}, {self.state}"]
        for one in self.channels:
            lines.append(f"channel {one.channel} ({one.role}), samples at {one.sample_rate_hz} Hz")
            for kind, samples in one.totals.items():
                lines.append(f"  {kind:<11}{samples:>12}{seconds(samples, one.sample_rate_hz):>12.3f} s")
            told = "not told yet" if one.accepted_samples is None else str(one.accepted_samples)
            lines.append(f"  covered    {one.covered_samples:>12}   accepted {told}")
            lines += [f"  {problem}" for problem in one.problems]
        if not self.channels:
            lines += self.problems
        lines.append("does not add up" if self.problems else "adds up")
        return "\n".join(lines) + "\n"


def coverage_of(stored: StoredCall) -> Coverage:
    """Return the account of the rows of one call, in any order."""
    ends: dict[str, int] = next((event.detail["end_samples"] for event in stored.events if event.kind == "ended"), {})
    return Coverage(
        call_id=stored.call.call_id,
        state=stored.call.state,
        channels=tuple(_channel(stored, channel, ends.get(str(channel.channel))) for channel in stored.call.channels),
    )


def _channel(stored: StoredCall, channel: Channel, end: int | None) -> ChannelCoverage:
    rows = sorted((row for row in stored.coverage if row.channel == channel.channel), key=lambda row: row.start_sample)
    offset = min(channel.offset_samples, end) if end is not None else channel.offset_samples
    spans = _merged(rows)
    paused = sum(span.end_sample - span.start_sample for span in spans if span.kind == PAUSED)
    segments = [(one.start_sample, one.end_sample) for one in stored.segments if one.channel == channel.channel]
    gaps = [(one.start_sample, one.end_sample) for one in stored.gaps if one.channel == channel.channel]
    problems = [
        *_breaks(spans, offset, end if stored.call.state == COMPLETE else None),
        *_unbacked(spans, "segment", segments),
        *_unbacked(spans, "gap", gaps),
    ]
    for segment_start, segment_end in segments:
        problems += _outside(spans, ("segment",), segment_start, segment_end)
    for gap_start, gap_end in gaps:
        # A gap begins where its lane was last heard of, and words may have been committed up to its end.
        problems += _outside(spans, ("gap", "segment"), max(gap_start, gap_end - 1), gap_end)
    return ChannelCoverage(
        channel=channel.channel,
        role=channel.role,
        sample_rate_hz=channel.sample_rate_hz,
        accepted_samples=None if end is None else end - offset - paused,
        spans=spans,
        problems=tuple(f"channel {channel.channel}: {problem}" for problem in problems),
    )


def _merged(rows: Sequence[CoverageRow]) -> tuple[CoverageSpan, ...]:
    spans: list[CoverageSpan] = []
    for row in rows:
        start = row.start_sample
        last = spans[-1] if spans else None
        if last is not None and (last.kind, last.reason, last.end_sample) == (row.kind, row.reason, start):
            spans.pop()
            start = last.start_sample
        spans.append(CoverageSpan(kind=row.kind, reason=row.reason, start_sample=start, end_sample=row.end_sample))
    return tuple(spans)


def _breaks(spans: Sequence[CoverageSpan], start: int, end: int | None) -> Iterable[str]:
    """Yield every hole and overlap from ``start`` to ``end``."""
    position = start
    for span in spans:
        if span.start_sample > position:
            yield f"samples {position} to {span.start_sample} are in no span"
        if span.start_sample < position:
            yield f"samples {span.start_sample} to {min(position, span.end_sample)} are in two spans"
        position = max(position, span.end_sample)
    if end is not None and position < end:
        yield f"samples {position} to {end} are in no span"
    if end is not None and position > end:
        yield f"samples {end} to {position} were not accepted"


def _outside(spans: Sequence[CoverageSpan], kinds: Sequence[str], start: int, end: int) -> Iterable[str]:
    """Yield that a stored segment or gap (the first of ``kinds``) is not accounted for as any of ``kinds``."""
    inside = sum(
        min(end, span.end_sample) - max(start, span.start_sample)
        for span in spans
        if span.kind in kinds and span.start_sample < end and span.end_sample > start
    )
    if inside < end - start:
        yield f"the {kinds[0]} from sample {start} to {end} is accounted for with {inside} samples"


def _unbacked(spans: Sequence[CoverageSpan], kind: str, rows: Iterable[tuple[int, int]]) -> Iterable[str]:
    """Yield what spans of ``kind`` say and no row does: rows (start, end) may overlap, be empty, and reach out of the spans."""
    ordered = sorted(rows)
    for span in spans:
        if span.kind != kind:
            continue
        position = span.start_sample
        for start, end in (*ordered, (span.end_sample, span.end_sample)):
            if position < min(start, span.end_sample):
                yield f"samples {position} to {min(start, span.end_sample)} are accounted for as {kind}, and no {kind} is stored there"
            position = max(position, end)
            if position >= span.end_sample:
                break
