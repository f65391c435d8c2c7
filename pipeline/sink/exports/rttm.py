"""RTTM (NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A)."""

from __future__ import annotations

from pipeline.sink.transcript import Transcript


def to_rttm(transcript: Transcript) -> str:
    """Return one SPEAKER line per segment; channels count from 1, times are seconds, names hold no spaces."""
    return "".join(
        f"SPEAKER {transcript.call_id} {segment.channel + 1} {segment.start_seconds:.3f} "
        f"{segment.end_seconds - segment.start_seconds:.3f} <NA> <NA> {_name(segment.speaker)} <NA> <NA>\n"
        for segment in transcript.segments
    )


def _name(speaker: str) -> str:
    return "_".join(speaker.split()) or "unknown"
