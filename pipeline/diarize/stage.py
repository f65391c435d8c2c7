"""The diarize stage as data."""

from __future__ import annotations

import logging
import os
from typing import Any

from pipeline.core.contract import StageSpec
from pipeline.core.errors import UsageError
from pipeline.diarize.card import distances_of
from pipeline.diarize.enrolment import Enrolled
from pipeline.diarize.loading import FoundModel, check_extra, find_model, missing_extra
from pipeline.diarize.logic import CHANNEL, DIART, DiarizeConfig, DiarizeLogic
from pipeline.diarize.partition import ClusteringConfig
from pipeline.diarize.voiceprints import read_voiceprints
from pipeline.diarize.window import FRAME, RATE
from schemas.records import CallAnnotation, CallSpeech

log = logging.getLogger(__name__)

CLEAN_SECONDS = 0.4  # of a local speaker alone, before what others talk over is left out of the voice
NOT_INSTALLED = "diarization_not_installed"


def engine_of(settings: Any) -> str:
    """Return which engine hears mixed channels. Raises NotReadyError when it is not installed and was asked for."""
    chosen: str = settings.diarize.engine
    if chosen == "auto":
        return CHANNEL if missing_extra() else DIART
    if chosen == DIART:
        check_extra()
    return chosen


def models_of(diarize: Any) -> tuple[FoundModel, FoundModel]:
    """Return the segmentation and the embedding model of the settings. Raises NotReadyError when one cannot be had."""
    token, cache = diarize.hub_token.get_secret_value(), diarize.model_cache
    return (
        find_model(diarize.segmentation, "segmentation", token=token, cache=cache),
        find_model(diarize.embedding, "embedding", token=token, cache=cache),
    )


def _logic(settings: Any) -> DiarizeLogic:
    diarize = settings.diarize
    if engine_of(settings) == CHANNEL:
        absence = NOT_INSTALLED if diarize.engine == "auto" else ""
        if absence:
            log.warning(
                "speakers of mixed channels stay unknown: the extra `diarization` is not installed (make setup-full)"
            )
        return DiarizeLogic(absence=absence)
    if diarize.latency_seconds >= settings.assemble.speaker_wait_seconds:
        raise UsageError(
            f"setting diarize.latency_seconds ({diarize.latency_seconds:g}) must be below assemble.speaker_wait_seconds "
            f"({settings.assemble.speaker_wait_seconds:g}), or no word would wait for its speaker"
        )
    segmentation, embedding = models_of(diarize)
    return DiarizeLogic(config_of(diarize, f"{segmentation.revision} {embedding.revision}"))


def config_of(diarize: Any, model: str) -> DiarizeConfig:
    """Return how mixed channels are heard, for the ``diarize`` section of the settings and the models' revisions."""
    distances = distances_of(diarize.embedding)
    distance = diarize.new_speaker_distance
    return DiarizeConfig(
        model=model,
        window=_frames(diarize.window_seconds),
        step=_frames(diarize.step_seconds),
        latency=_frames(diarize.latency_seconds),
        threshold=diarize.threshold,
        clean_seconds=CLEAN_SECONDS,
        clustering=ClusteringConfig(
            distance=distances.distance if distance is None else distance,
            distance_seconds=distances.distance_seconds,
            min_speakers=diarize.min_speakers,
            max_speakers=diarize.max_speakers,
        ),
        enrolled=_enrolled(diarize, model, distances.enrolment_similarity),
    )


def _engine(settings: Any) -> Any:
    """Return the loaded models, None where nothing is inferred. Raises NotReadyError when they cannot be loaded."""
    if engine_of(settings) == CHANNEL:
        return None
    from pipeline.diarize.engine import DiartEngine, resolve_device

    diarize = settings.diarize
    segmentation, embedding = models_of(diarize)
    device = resolve_device(diarize.device)
    return DiartEngine(
        segmentation,
        embedding,
        window_seconds=diarize.window_seconds,
        threshold=diarize.threshold,
        clean_seconds=CLEAN_SECONDS,
        device=device,
        threads=settings.runtime.threads or (1 if device == "cuda" else os.cpu_count() or 1),
    )


def _enrolled(diarize: Any, model: str, similarity: float) -> Enrolled | None:
    if not diarize.enrolled:
        return None
    least = diarize.enrolled_similarity
    return read_voiceprints(
        diarize.enrolled, model=model.split()[-1], similarity=similarity if least is None else least
    )


def _frames(seconds: float) -> int:
    """Return the samples of whole frames."""
    return max(1, round(seconds * RATE / FRAME)) * FRAME


SPEC = StageSpec(
    name="diarize",
    input="call.speech",
    output="call.annotations",
    reads=CallSpeech,
    writes=CallAnnotation,
    writers=("vad",),
    make_logic=_logic,
    make_engine=_engine,
    is_rarely_asked=True,
)
