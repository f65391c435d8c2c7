"""The asr stage as data."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from pipeline.asr import loading, logic
from pipeline.asr.policies.alignatt import AlignAtt
from pipeline.core.contract import StageSpec
from schemas.records import CallAnnotation, CallSpeech

DEFAULT_PADDING_SECONDS = 0.5
DEFAULT_LOG_PROBABILITY = -2.0


@cache
def _files(model: str, model_cache: str) -> loading.ModelFiles:
    return loading.resolve_model(model, cache=model_cache)


def _logic(settings: Any) -> logic.AsrLogic:
    files = _files(settings.asr.model, settings.asr.model_cache)
    policy = AlignAtt(frame_threshold=settings.asr.frame_threshold)
    return logic.make(
        settings.asr,
        model=f"{files.name}@{files.digest}",
        policy=policy,
        min_mean_log_probability=_or_card(
            settings.asr.min_mean_log_probability, files, "min_mean_log_probability", DEFAULT_LOG_PROBABILITY
        ),
    )


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
        padding_seconds=_or_card(asr.padding_seconds, files, "padding_seconds", DEFAULT_PADDING_SECONDS),
    )
    expected = files.card.get("self_test") if asr.self_test == "strict" else None
    if expected:
        import soundfile

        audio, _ = soundfile.read(files.folder / expected["audio"], dtype="int16")
        engine.self_test(expected["text"], audio)
    elif asr.self_test != "off":
        engine.self_test()
    return engine


def _or_card(setting: float | None, files: loading.ModelFiles, name: str, default: float) -> float:
    """Return the setting, else what the model's card says, else the default."""
    return float(files.card.get(name, default)) if setting is None else setting


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
