"""Plain text: one line per segment, ``[mm:ss.t] speaker: text``."""

from __future__ import annotations

from pipeline.sink.transcript import Transcript, TranscriptSegment

CORRECTED = " (corrected)"


def to_txt(transcript: Transcript) -> str:
    """Return one line per segment."""
    names = transcript.names
    return "".join(
        to_line(segment, names.get((segment.channel, segment.speaker))) + "\n" for segment in transcript.segments
    )


def to_line(segment: TranscriptSegment, name: str | None = None, *, is_corrected: bool = False) -> str:
    """Return the line of one segment, without its end; ``name`` stands for the speaker's label where one is known.

    The time is the start in minutes and seconds, hours only where there are any.
    """
    tenths = int(segment.start_seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}" if hours else f"{minutes:02d}"
    who = f"{name or segment.speaker}{CORRECTED if is_corrected else ''}"
    return f"[{clock}:{tenths // 10:02d}.{tenths % 10}] {who}: {' '.join(segment.text.split())}"
