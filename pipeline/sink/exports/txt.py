"""Plain text: one line per segment, ``[mm:ss.t] speaker: text``."""

from __future__ import annotations

from pipeline.sink.transcript import Transcript, TranscriptSegment


def to_txt(transcript: Transcript) -> str:
    """Return one line per segment."""
    return "".join(to_line(segment) + "\n" for segment in transcript.segments)


def to_line(segment: TranscriptSegment) -> str:
    """Return the line of one segment, without its end.

    The time is the start in minutes and seconds, hours only where there are any.
    """
    tenths = int(segment.start_seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}" if hours else f"{minutes:02d}"
    return f"[{clock}:{tenths // 10:02d}.{tenths % 10}] {segment.speaker}: {' '.join(segment.text.split())}"
