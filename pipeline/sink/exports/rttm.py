"""RTTM, see `pipeline.core.rttm`."""

from __future__ import annotations

from pipeline.core.rttm import SpeakerTurn, write_rttm
from pipeline.sink.transcript import Transcript


def to_rttm(transcript: Transcript) -> str:
    """Return one SPEAKER line per segment; channels count from 1, times are seconds, names hold no spaces."""
    return write_rttm(
        SpeakerTurn(
            file=transcript.call_id,
            channel=segment.channel + 1,
            start_seconds=segment.start_seconds,
            duration_seconds=segment.end_seconds - segment.start_seconds,
            speaker=segment.speaker,
        )
        for segment in transcript.segments
    )
