"""SubRip (.srt): numbered captions, comma before the milliseconds, a blank line between them."""

from __future__ import annotations

from pipeline.sink.exports.cues import clock, cues
from pipeline.sink.transcript import Transcript


def to_srt(transcript: Transcript) -> str:
    """Return a SubRip file; each caption starts with its speaker."""
    return "\n".join(
        f"{number}\n{clock(cue.start_ms, point=',')} --> {clock(cue.end_ms, point=',')}\n{cue.speaker}: {cue.text}\n"
        for number, cue in enumerate(cues(transcript), start=1)
    )
