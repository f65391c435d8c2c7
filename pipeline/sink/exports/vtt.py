"""WebVTT (W3C Candidate Recommendation, "WebVTT: The Web Video Text Tracks Format"), with voice spans."""

from __future__ import annotations

from pipeline.sink.exports.cues import clock, cues
from pipeline.sink.transcript import Transcript

ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def to_vtt(transcript: Transcript) -> str:
    """Return a WebVTT file; each caption is a voice span ``<v speaker>``."""
    blocks = ["WEBVTT\n"]
    blocks += [
        f"{clock(cue.start_ms, point='.')} --> {clock(cue.end_ms, point='.')}\n"
        f"<v {' '.join(cue.speaker.split()).translate(ESCAPES)}>{cue.text.translate(ESCAPES)}\n"
        for cue in cues(transcript)
    ]
    return "\n".join(blocks)
