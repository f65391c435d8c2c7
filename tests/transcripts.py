"""What call.segments says in the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from schemas.records import CallSegment, Speakers


def transcript(segments: Iterable[CallSegment]) -> list[CallSegment]:
    """Return the content of call.segments without what depends on record sizes: capture times, sequences and watermarks."""
    kept = [
        replace(record, capture_time_ms=0, sequence=0)
        for record in segments
        if record.kind in ("segment", "gap", "degraded", "ended", "started")
    ]
    return sorted(kept, key=lambda record: (record.start_sample, record.channel, record.kind))


def words_of(segments: Iterable[CallSegment], channel: int) -> list[str]:
    """Return the words of a channel in order."""
    own = [(record.start_sample, record.segment) for record in segments if record.channel == channel and record.segment]
    return [word.text for _, segment in sorted(own, key=lambda one: one[0]) for word in segment.words]


def speakers_of(segments: Iterable[CallSegment]) -> dict[int, Speakers]:
    """Return what is said last of the speakers of each channel."""
    told = sorted((record for record in segments if record.speakers), key=lambda record: record.sequence)
    return {record.channel: record.speakers for record in told if record.speakers is not None}
