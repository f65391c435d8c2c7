"""CSV (RFC 4180): one row per segment, CRLF line ends, a header line."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from pipeline.sink.transcript import Transcript

COLUMNS = (
    "call_id",
    "segment_id",
    "revision",
    "channel",
    "role",
    "speaker",
    "start_seconds",
    "end_seconds",
    "text",
    "language",
    "model",
    "policy",
)


def to_csv(transcript: Transcript) -> str:
    """Return one row per segment; fields with commas, quotes or line breaks are quoted."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    names = transcript.names
    for segment in transcript.segments:
        shown = replace(segment, speaker=names.get((segment.channel, segment.speaker), segment.speaker))
        values = [transcript.call_id, *(getattr(shown, name) for name in COLUMNS[1:])]
        writer.writerow(["" if value is None else value for value in values])
    return out.getvalue()
