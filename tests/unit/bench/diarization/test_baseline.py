"""diart's own pipeline with tiny models that are made here; it lies behind one function."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from pipeline.bench.diarization.baseline import Baseline
from pipeline.core.errors import NotReadyError
from pipeline.runtime.settings import Settings

# In a process of its own: what diart imports warns in many places that are not ours, and leaves modules behind that cannot be inspected.
# The segmentation hears one local speaker of two by loudness, the embedding is random.
PROGRAM = """
import json, sys, warnings
import numpy as np
from pipeline.bench.diarization.baseline import diart_annotation
with warnings.catch_warnings(action="ignore"):
    import torch
    from diart.models import EmbeddingModel, SegmentationModel

torch.manual_seed(0)
HOP = 160
project = torch.nn.Linear(HOP, 16)

def frames(waveform):
    return waveform[:, 0].unfold(1, HOP, HOP)

class Loudness(torch.nn.Module):
    def forward(self, waveform):
        loud = (frames(waveform).abs().mean(-1) > 0.01).float()
        return torch.stack([loud, torch.zeros_like(loud)], -1)

class RandomVoice(torch.nn.Module):
    def forward(self, waveform, weights):
        return (project(frames(waveform)) * weights[:, :, None]).sum(1)

found = []
for seconds, loud, latency_seconds in json.loads(sys.argv[1]):
    audio = np.zeros(round(seconds * 16_000), dtype=np.float32)
    for start, end in loud:
        part = slice(round(start * 16_000), round(end * 16_000))
        audio[part] = 0.1 * np.random.RandomState(0).standard_normal(part.stop - part.start)
    models = SegmentationModel(lambda: Loudness()), EmbeddingModel(lambda: RandomVoice())
    annotation = diart_annotation(audio, *models, latency_seconds)
    found.append({"spans": [[one.start, one.end] for one in annotation.itersegments()], "labels": len(annotation.labels())})
print(json.dumps(found))
"""
LONG = [21.3, [[3.0, 8.0], [20.0, 21.0]]]
SHORT = [2.0, [[0.5, 1.5]]]  # less than a window


@cache
def annotations() -> list[dict[str, Any]]:
    cases = [[*LONG, 0.1], [*LONG, 2.0], [*LONG, 30.0], [*SHORT, 2.0]]
    command = [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.diarization
@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", [0, 1, 2, 3], ids=["latency 0.1 s", "latency 2 s", "latency 30 s", "short"])
def test_one_voice_is_found_where_it_is(case: int) -> None:
    found = annotations()[case]
    expected = (SHORT if case == 3 else LONG)[1]
    assert found["labels"] == 1
    assert [time for span in found["spans"] for time in span] == pytest.approx(
        [time for span in expected for time in span], abs=0.05
    )


def test_without_models_there_is_no_baseline() -> None:
    with pytest.raises(NotReadyError, match=r"diarize\.engine"):
        Baseline(Settings.model_validate({"diarize": {"engine": "channel"}}))
