"""JSON: the shape that other programs rely on."""

from __future__ import annotations

import json

from pipeline.sink.transcript import Transcript


def to_json(transcript: Transcript) -> str:
    """Return one JSON document (RFC 8259), indented, UTF-8 text kept as it is."""
    return json.dumps(transcript.to_document(), ensure_ascii=False, indent=2) + "\n"
