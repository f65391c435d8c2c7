"""Segmentation and embedding on PyTorch, through diart's models and blocks: windows of audio in, local speakers out.

The segmentation model says who of at most a few local speakers speaks in each frame; the embedding model hears, for each of them, the
frames in which nobody else speaks. Clustering is not done here: `pipeline.diarize.clustering`.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.errors import NotReadyError
from pipeline.diarize.card import ENCODER
from pipeline.diarize.encoder import SpeakerEncoder
from pipeline.diarize.loading import FoundModel
from pipeline.diarize.segmentation import Segmentation
from pipeline.diarize.window import (
    FRAME,
    FRAMES_PER_SECOND,
    RATE,
    DiarizeWork,
    Failure,
    Floats,
    Heard,
    active_of,
    clean_of,
    resampled,
    runs_of,
)

with warnings.catch_warnings(action="ignore"):  # of the packages' own imports
    from diart.models import EmbeddingModel, SegmentationModel
    from pyannote.audio.core.task import Problem, Resolution, Specifications

log = logging.getLogger(__name__)

GPU_BATCH = 32
# What checkpoints of pyannote.audio hold besides weights. PyTorch loads nothing else: a checkpoint could run any code otherwise.
CHECKPOINT_TYPES = [torch.torch_version.TorchVersion, Specifications, Problem, Resolution]
LEAST_EMBEDDED_SECONDS = 0.25
LONGEST = 60  # frames: two persons in a stretch of 1.2 s are told apart by other windows
BRIDGE = 10  # frames: who is quiet for less than 200 ms goes on


class DiartEngine:
    """Loaded models. ``infer`` may run on several threads.

    On a CPU every window is heard alone, so that company changes nothing; on a GPU up to `GPU_BATCH` go together. What the models
    raise is answered by a `Failure`, of the window that they raised it for. Raises NotReadyError when a model cannot be loaded, or does
    not hear windows of ``window_seconds``.
    """

    def __init__(
        self,
        segmentation: FoundModel,
        embedding: FoundModel,
        *,
        window_seconds: float,
        threshold: float,
        clean_seconds: float,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self._device = torch.device(device)
        self._threshold = threshold
        self._clean_seconds = clean_seconds
        self._failures = 0
        self.threads = threads
        torch.set_num_threads(1)  # windows of several calls are heard at the same time instead
        self._segmentation = _loaded(segmentation_model(segmentation), segmentation, self._device)
        self._embedding = _loaded(embedding_model(embedding), embedding, self._device)
        self._check(segmentation, embedding, round(window_seconds * RATE))

    @property
    def max_batch(self) -> int:
        """Return how many windows are heard together."""
        return 1 if self._device.type == "cpu" else GPU_BATCH

    def counts(self) -> dict[str, int]:
        """Return how many windows the models have failed to hear."""
        return {"failures": self._failures}

    def infer(self, batch: Sequence[DiarizeWork]) -> list[Heard | Failure]:
        """Return what is heard in each window, in order."""
        try:
            return list(self._hear(batch))
        except Exception as error:
            if len(batch) > 1:  # a smaller batch may fit into memory, and the others' windows are not to blame
                return [result for work in batch for result in self.infer([work])]
            self._failures += 1
            log.warning("a window could not be heard: %s", type(error).__name__)
            return [Failure(reason=type(error).__name__)]

    def _hear(self, batch: Sequence[DiarizeWork]) -> list[Heard]:
        audio = np.stack([work.audio for work in batch]).astype(np.float32) / 32768.0
        with torch.inference_mode():
            waveforms = torch.from_numpy(audio)[:, None].to(self._device)
            scores = self._segmentation(waveforms).float().cpu().numpy()
        frames = [resampled(one, round(audio.shape[1] * FRAMES_PER_SECOND / RATE)) for one in scores]
        runs = [
            runs_of(
                active_of(one, self._threshold),
                start=work.position // FRAME - len(one),
                bridge=BRIDGE,
                longest=LONGEST,
            )
            for one, work in zip(frames, batch, strict=True)
        ]
        weights = [
            clean_of(active, self._clean_seconds)[0] & active[len(active) - work.open_frames :].any(axis=0)
            for (active, _), work in zip(runs, batch, strict=True)
        ]
        voices = self._voices(waveforms, weights)
        return [
            Heard(scores=np.where(active, one[:, list(owners)], 0.0).astype(np.float32), embeddings=own, owners=owners)
            for one, (active, owners), own in zip(frames, runs, voices, strict=True)
        ]

    def _voices(self, waveforms: torch.Tensor, weights: Sequence[NDArray[np.bool_]]) -> list[Floats]:
        """Return the embeddings of the local speakers of each window, unit vectors.

        Raises FloatingPointError when a second or more of speech has none.
        """
        least = math.ceil(LEAST_EMBEDDED_SECONDS * FRAMES_PER_SECOND)
        asked = [
            (window, local)
            for window, own in enumerate(weights)
            for local in range(own.shape[1])
            if own[:, local].sum() >= least
        ]
        if not asked:
            return [np.full((own.shape[1], 1), np.nan, dtype=np.float32) for own in weights]
        masks = np.stack([weights[window][:, local] for window, local in asked]).astype(np.float32)
        with torch.inference_mode():
            heard = waveforms[[window for window, _ in asked]]
            found = self._embedding(heard, torch.from_numpy(masks).to(self._device))
            found = torch.nn.functional.normalize(torch.as_tensor(found).float(), dim=-1).cpu().numpy()
        results = [np.full((own.shape[1], found.shape[1]), np.nan, dtype=np.float32) for own in weights]
        for (window, local), vector, mask in zip(asked, found, masks, strict=True):
            if mask.sum() >= FRAMES_PER_SECOND and not np.isfinite(vector).all():
                raise FloatingPointError("an embedding is not finite")
            results[window][local] = vector
        return results

    def _check(self, segmentation: FoundModel, embedding: FoundModel, samples: int) -> None:
        """Hear a window of faint noise once, which also warms the models up."""
        noise = np.random.default_rng(0).normal(0.0, 300.0, samples).astype(np.int16)
        work = DiarizeWork(audio=noise, position=samples)
        try:
            self._hear([work])
            weights = [np.ones((round(samples * FRAMES_PER_SECOND / RATE), 1), dtype=np.bool_)]
            (voice,) = self._voices(
                torch.from_numpy(noise.astype(np.float32) / 32768.0)[None, None].to(self._device), weights
            )
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise NotReadyError(
                f"diarization models {segmentation.name!r} and {embedding.name!r} do not hear windows of {samples / RATE:g} s: {reason}"
            ) from error
        if not np.isfinite(voice).all():
            raise NotReadyError(f"diarize.embedding {embedding.name!r} gives no numbers")


def segmentation_model(found: FoundModel) -> Any:
    """Return diart's model of a segmentation checkpoint: float32 [batch, 1, samples] to [batch, frames, speakers], 0 to 1."""
    if found.is_shipped:
        encoder = found.path.with_name(ENCODER)
        return SegmentationModel(lambda: Segmentation.load(found.path, SpeakerEncoder.load(encoder)))
    return SegmentationModel.from_pretrained(str(found.path), None)


def embedding_model(found: FoundModel) -> Any:
    """Return diart's model of an embedding: float32 [batch, 1, samples] and weights [batch, frames] to [batch, dimensions]."""
    if found.is_shipped:
        return EmbeddingModel(lambda: SpeakerEncoder.load(found.path))
    return EmbeddingModel.from_pretrained(str(found.path), None)


def resolve_device(device: str) -> str:
    """Return ``cpu`` or ``cuda`` for the setting diarize.device. Raises NotReadyError when there is no such device."""
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise NotReadyError(
            "diarize.device is cuda, but PyTorch finds no CUDA device here: check the driver, or use cpu"
        )
    return "cuda" if has_gpu and device != "cpu" else "cpu"


def _loaded(model: Any, found: FoundModel, device: torch.device) -> Any:
    try:
        # Warnings are of checkpoints that older versions of the libraries wrote.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(CHECKPOINT_TYPES):
            model.load()
            if model.model is None:
                raise ValueError("no model of pyannote.audio")
            model.to(device)
            return model.eval()
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NotReadyError(f"diarization model {found.name!r} cannot be loaded from {found.path}: {reason}") from error
