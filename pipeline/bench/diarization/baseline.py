"""diart's own streaming pipeline on the same audio with the same models, for comparison."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.audio import RATE, channels_of
from pipeline.bench.diarization.figures import Cost
from pipeline.bench.diarization.recordings import Speech, speech_of
from pipeline.core.errors import NotReadyError
from pipeline.runtime.settings import Settings

WINDOW_SECONDS = 5.0  # diart's defaults
STEP_SECONDS = 0.5
PATCH_SECONDS = 0.05  # diart's accumulator joins turns of one label that are so close


class Baseline:
    """diart's pipeline with the models of the settings. Raises NotReadyError when there are none, or the extra is missing."""

    def __init__(self, settings: Settings) -> None:
        from pipeline.diarize.stage import engine_of, models_of

        if engine_of(settings) == "channel":
            raise NotReadyError("--baseline needs models: set diarize.engine to diart, with `make setup-full`")
        import torch

        from pipeline.diarize.engine import CHECKPOINT_TYPES, embedding_model, segmentation_model

        segmentation, embedding = models_of(settings.diarize)
        self._segmentation = segmentation_model(segmentation)
        self._embedding = embedding_model(embedding)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(CHECKPOINT_TYPES):
            self._segmentation.load()
            self._embedding.load()
        self._latency_seconds = settings.diarize.latency_seconds

    def run(self, path: Path) -> tuple[Speech, Cost]:
        """Return what diart says of a recording, its channels added up, and what that took. Raises InputError."""
        channels = channels_of(path)
        waveform = np.mean(channels, axis=0, dtype=np.float32) / np.float32(32768)
        cpu, wall = time.process_time(), time.perf_counter()
        annotation = diart_annotation(waveform, self._segmentation, self._embedding, self._latency_seconds)
        cost = Cost(
            audio_seconds=len(waveform) / RATE,
            cpu_seconds=time.process_time() - cpu,
            wall_seconds=time.perf_counter() - wall,
        )
        turns = [(str(label), turn.start, turn.end) for turn, _, label in annotation.itertracks(yield_label=True)]
        return speech_of((label, max(0.0, start), min(end, cost.audio_seconds)) for label, start, end in turns), cost


def diart_annotation(waveform: NDArray[np.float32], segmentation: Any, embedding: Any, latency_seconds: float) -> Any:
    """Return the `pyannote.core.Annotation` that diart's `SpeakerDiarization` makes of samples, [samples] at 16 kHz, full scale 1.

    ``segmentation`` and ``embedding`` are diart's `SegmentationModel` and `EmbeddingModel`. Windows of 5 s, a step of 0.5 s, all other
    parameters diart's defaults; the latency is brought into the range it allows. The audio is padded with silence as diart pads files:
    to a whole window in front, and behind by what the latency keeps back.
    """
    with warnings.catch_warnings(action="ignore"):  # of the packages' own imports, and of diart's arithmetic on silence
        from diart import SpeakerDiarization, SpeakerDiarizationConfig
        from pyannote.core import Annotation, SlidingWindow, SlidingWindowFeature

        latency = min(max(latency_seconds, STEP_SECONDS), WINDOW_SECONDS)
        pipeline = SpeakerDiarization(
            SpeakerDiarizationConfig(
                segmentation=segmentation,
                embedding=embedding,
                duration=WINDOW_SECONDS,
                step=STEP_SECONDS,
                latency=latency,
            )
        )
        size, step = round(WINDOW_SECONDS * RATE), round(STEP_SECONDS * RATE)
        behind = round((latency - STEP_SECONDS) * RATE)
        behind += -(len(waveform) + behind) % step
        in_front = max(0, size - len(waveform) - behind)
        padded = np.pad(waveform.astype(np.float32), (in_front, behind))
        pipeline.set_timestamp_shift(-in_front / RATE)
        result = Annotation()
        for start in range(0, len(padded) - size + 1, step):
            resolution = SlidingWindow(start=start / RATE, duration=1 / RATE, step=1 / RATE)
            window = SlidingWindowFeature(padded[start : start + size, None], resolution)
            ((annotation, _),) = pipeline([window])
            result.update(annotation)
        return result.support(PATCH_SECONDS)
