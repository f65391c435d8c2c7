"""The vad stage as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.contract import SKIP, Lane, StageSpec
from pipeline.vad import logic
from schemas.records import CallAudio, CallSpeech


def _engine(settings: Any) -> Any:
    from pipeline.vad.engine import SileroEngine

    return SileroEngine()


def _headers(record: CallSpeech, lane: Lane | None) -> Mapping[str, bytes]:
    """Mark what is on a separate channel: diarization skips it without decoding.

    All of it, gaps and pauses too: a stage that sees some records of a channel takes those it skips for lost ones.
    """
    if lane is not None and lane.channel.role != "mixed":
        return {"diarize": SKIP}
    return {}


SPEC = StageSpec(
    name="vad",
    input="call.audio",
    output="call.speech",
    reads=CallAudio,
    writes=CallSpeech,
    writers=("ingest",),
    clocks=("vad",),
    make_logic=lambda settings: logic.make(settings.vad),
    make_engine=_engine,
    headers=_headers,
)
