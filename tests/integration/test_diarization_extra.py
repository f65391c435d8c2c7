"""The diarization extra: the locked versions of torch, pyannote.audio and diart work together, without a model hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.bench.diarization.recordings import CALLS

pytestmark = [pytest.mark.diarization, pytest.mark.timeout(180)]

# In a process of its own: importing the three warns in many places that are not ours.
PROGRAM = """
import json
from importlib.metadata import version

import numpy as np
import torch
from diart.blocks import OnlineSpeakerClustering
from pyannote.audio.models.segmentation import PyanNet
from pyannote.core import SlidingWindow, SlidingWindowFeature

torch.manual_seed(0)
model = PyanNet(sincnet={"stride": 10}, lstm={"hidden_size": 8, "num_layers": 1}, linear={"hidden_size": 8, "num_layers": 1})
from pyannote.audio.core.task import Problem, Resolution, Specifications
model.specifications = Specifications(
    problem=Problem.MULTI_LABEL_CLASSIFICATION, resolution=Resolution.FRAME, duration=5.0, classes=["a", "b"]
)
model.build()
scores = model.eval()(torch.zeros(1, 1, 80_000))

clustering = OnlineSpeakerClustering(tau_active=0.5, rho_update=0.1, delta_new=0.5, metric="cosine", max_speakers=4)
window = SlidingWindow(duration=0.1, step=0.1)
ann, bob = np.eye(4)[:2]
labels = []
for voices in ([ann, bob], [bob, ann], [ann, bob]):
    active = SlidingWindowFeature(np.ones((10, 2)), window)
    mapped = clustering(active, torch.tensor(np.stack(voices)))
    labels.append([int(np.argmax(mapped.data.sum(axis=0) > 0)), mapped.data.shape[1], len(clustering.active_centers)])
print(json.dumps({
    "frames": list(scores.shape),
    "speakers": labels[-1][2],
    "versions": {name: version(name) for name in ("torch", "torchaudio", "diart", "pyannote.audio", "numpy")},
}))
"""


def test_the_locked_versions_work_together() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["frames"][0] == 1
    assert found["frames"][2] == 2
    assert found["speakers"] == 2
    assert found["versions"]["torch"].startswith("2.8.0")
    assert found["versions"]["numpy"].startswith("1.")


def test_enrolment_hears_all_of_what_a_person_says(tmp_path: Path) -> None:
    """In windows that stand beside each other nothing is decided before: every stretch counts."""
    recording = CALLS / "one-01.opus"
    speech = json.loads(recording.with_suffix(".json").read_text("utf-8"))["speech_seconds"]
    command = [sys.executable, "-W", "ignore", "-m", "pipeline", "speakers", "enrol", "Ann", str(recording)]
    done = subprocess.run(
        [*command, "--file", str(tmp_path / "voices.json"), "--json"],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0.5 * speech < json.loads(done.stdout)["seconds"] <= 1.1 * speech
