"""diart's own pipeline with tiny models that are made here; it lies behind one function."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from pipeline.bench.diarization.baseline import Baseline, diart_annotation
from pipeline.core.errors import NotReadyError
from pipeline.runtime.settings import Settings

HOP = 160


def models() -> tuple[Any, Any]:
    """Return a segmentation by loudness into one local speaker of two, and random embeddings."""
    with warnings.catch_warnings(action="ignore"):
        import torch
        from diart.models import EmbeddingModel, SegmentationModel

    torch.manual_seed(0)
    project = torch.nn.Linear(HOP, 16)

    def frames(waveform: Any) -> Any:
        return waveform[:, 0].unfold(1, HOP, HOP)

    class Loudness(torch.nn.Module):
        def forward(self, waveform: Any) -> Any:
            loud = (frames(waveform).abs().mean(-1) > 0.01).float()
            return torch.stack([loud, torch.zeros_like(loud)], -1)

    class RandomVoice(torch.nn.Module):
        def forward(self, waveform: Any, weights: Any) -> Any:
            return (project(frames(waveform)) * weights[:, :, None]).sum(1)

    return SegmentationModel(lambda: Loudness()), EmbeddingModel(lambda: RandomVoice())


def noise(seconds: float, *loud: tuple[float, float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    audio = np.zeros(round(seconds * 16_000), dtype=np.float32)
    for start, end in loud:
        part = slice(round(start * 16_000), round(end * 16_000))
        audio[part] = 0.1 * np.random.RandomState(0).standard_normal(part.stop - part.start)
    return audio


@pytest.mark.diarization
@pytest.mark.timeout(180)
@pytest.mark.parametrize("latency_seconds", [0.1, 2.0, 30.0])
def test_one_voice_is_found_where_it_is(latency_seconds: float) -> None:
    annotation = diart_annotation(noise(21.3, (3.0, 8.0), (20.0, 21.0)), *models(), latency_seconds)
    spans = [(segment.start, segment.end) for segment in annotation.itersegments()]
    assert np.allclose(spans, [(3.0, 8.0), (20.0, 21.0)], atol=0.05)
    assert len(annotation.labels()) == 1


@pytest.mark.diarization
@pytest.mark.timeout(180)
def test_audio_shorter_than_a_window_is_padded_in_front() -> None:
    annotation = diart_annotation(noise(2.0, (0.5, 1.5)), *models(), 2.0)
    ((start, end),) = [(segment.start, segment.end) for segment in annotation.itersegments()]
    assert (start, end) == pytest.approx((0.5, 1.5), abs=0.05)


def test_without_models_there_is_no_baseline() -> None:
    with pytest.raises(NotReadyError, match=r"diarize\.engine"):
        Baseline(Settings.model_validate({"diarize": {"engine": "channel"}}))
