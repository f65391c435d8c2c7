"""The asr stage as data."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from pipeline.asr import loading, logic
from pipeline.asr.policies.alignatt import AlignAtt
from pipeline.core.contract import StageSpec
from schemas.records import CallAnnotation, CallSpeech


@cache
def _files(model: str, model_cache: str) -> loading.ModelFiles:
    return loading.resolve_model(model, cache=model_cache)


def _logic(settings: Any) -> logic.AsrLogic:
    files = _files(settings.asr.model, settings.asr.model_cache)
    policy = AlignAtt(frame_threshold=settings.asr.frame_threshold)
    return logic.make(settings.asr, model=f"{files.name}@{files.digest}", policy=policy)


def _engine(settings: Any) -> Any:
    from pipeline.asr.engine import WhisperEngine

    asr = settings.asr
    files = _files(asr.model, asr.model_cache)
    engine = WhisperEngine(
        str(files.folder),
        device=asr.device,
        compute_type=asr.compute_type,
        threads=asr.threads or 1,
        workers=settings.runtime.threads or os.cpu_count() or 1,
        padding_seconds=asr.padding_seconds,
    )
    if asr.self_test != "off":
        engine.self_test()
    return engine


SPEC = StageSpec(
    name="asr",
    input="call.speech",
    output="call.annotations",
    reads=CallSpeech,
    writes=CallAnnotation,
    writers=("vad",),
    make_logic=_logic,
    make_engine=_engine,
)
