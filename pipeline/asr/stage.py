"""The asr stage as data."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pipeline.asr import logic
from pipeline.asr.catalogue import catalogue, catalogue_of, kept, offered
from pipeline.core.contract import StageSpec
from schemas.records import CallAnnotation, CallSpeech

if TYPE_CHECKING:
    from pipeline.asr.engine import WhisperEngine
    from pipeline.asr.pool import ModelPool

GPU_THREADS = 2  # one prepares features while the other's windows are decoded


def _logic(settings: Any) -> logic.AsrLogic:
    return logic.make(settings.asr, catalogue(settings.asr))


def _engine(settings: Any) -> ModelPool:
    """Return the pool of all models on offer: those that stay are loaded, and every one has been tested unless that is off."""
    from pipeline.asr.engine import GPU_BATCH, WhisperEngine, resolve_device
    from pipeline.asr.pool import ModelPool
    from pipeline.asr.self_test import check_model

    asr, runtime = settings.asr, settings.runtime
    files = offered(asr)
    profiles = catalogue_of(files, asr).profiles
    device = resolve_device(asr.device, asr.compute_type)
    threads = runtime.threads or (
        GPU_THREADS if device == "cuda" else max((os.cpu_count() or 1) // (asr.threads or 1), 1)
    )

    def load(name: str) -> WhisperEngine:
        engine = WhisperEngine(
            str(files[name].folder),
            profiles[name],
            device=device,
            compute_type=asr.compute_type,
            threads=asr.threads or 1,
            workers=1 if device == "cuda" else threads,
            max_batch=runtime.max_batch or GPU_BATCH,
        )
        check_model(engine, profiles[name], files[name], asr.self_test)
        return engine

    pool = ModelPool(load, kept=kept(asr), max_loaded=asr.max_loaded, idle_seconds=asr.idle_seconds, threads=threads)
    pool.warm(kept(asr) if asr.self_test == "off" else tuple(files))
    return pool


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
