"""The assemble stage as data."""

from __future__ import annotations

from pipeline.assemble import logic
from pipeline.core.contract import StageSpec
from schemas.records import CallAnnotation, CallSegment

SPEC = StageSpec(
    name="assemble",
    input="call.annotations",
    output="call.segments",
    reads=CallAnnotation,
    writes=CallSegment,
    writers=("asr", "diarize"),
    make_logic=lambda settings: logic.make(settings.assemble),
    make_engine=lambda settings: None,
)
