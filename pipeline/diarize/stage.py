"""The diarize stage as data."""

from __future__ import annotations

from pipeline.core.contract import StageSpec
from pipeline.diarize.logic import DiarizeLogic
from schemas.records import CallAnnotation, CallSpeech

SPEC = StageSpec(
    name="diarize",
    input="call.speech",
    output="call.annotations",
    reads=CallSpeech,
    writes=CallAnnotation,
    writers=("vad",),
    make_logic=lambda settings: DiarizeLogic(),
    make_engine=lambda settings: None,
)
