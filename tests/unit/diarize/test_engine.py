"""The engine with small models of pyannote.audio that are made here: loading by path and by hub name, hearing, failing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.diarization, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[3]

# In a process of its own: importing pyannote.audio and diart warns in many places that are not ours.
PROGRAM = """
import json, os, sys
from pathlib import Path
import numpy as np

folder = Path(sys.argv[1])
from pipeline.core.errors import NotReadyError
from pipeline.diarize.loading import find_model
from pipeline.diarize.window import DiarizeWork, Failure, Heard
from tests.unit.diarize.models import write_embedding, write_segmentation

write_segmentation(folder / "segmentation.bin")
(folder / "voices").mkdir()
write_embedding(folder / "voices" / "pytorch_model.bin")

# What the hub's client keeps of a model that was downloaded before.
cached = folder / "hub" / "models--organisation--segmentation"
(cached / "refs").mkdir(parents=True)
(cached / "refs" / "main").write_text("0" * 40)
(cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
(cached / "snapshots" / ("0" * 40) / "pytorch_model.bin").write_bytes((folder / "segmentation.bin").read_bytes())

import torch

from pipeline.diarize.engine import DiartEngine

local = find_model(str(folder / "segmentation.bin"), "segmentation")
hub = find_model("organisation/segmentation", "segmentation", cache=str(folder / "hub"))
voices = find_model(str(folder / "voices"), "embedding")
shipped = find_model("", "embedding")
found = {"revisions": [local.revision, hub.revision, voices.revision, shipped.revision]}

options = {"window_seconds": 5.0, "threshold": 0.3, "clean_seconds": 0.4}
work = [
    DiarizeWork(audio=np.random.default_rng(seed).normal(0, 3000, 80_000).astype(np.int16), position=80_000)
    for seed in range(3)
]
found["heard"] = []
for segmentation, embedding in ((hub, voices), (local, shipped)):
    engine = DiartEngine(segmentation, embedding, **options)
    alone = [engine.infer([one])[0] for one in work]
    together = engine.infer(work)
    found["heard"].append({
        "owners": sorted({owner for one in alone for owner in one.owners}),
        "shapes": [[*one.scores.shape, *one.embeddings.shape] for one in alone],
        "is_same": all(np.allclose(a.scores, b.scores, atol=1e-4) for a, b in zip(alone, together)),
        "range": [float(min(one.scores.min() for one in alone if one.scores.size)), float(max(one.scores.max() for one in alone))],
        "batch": engine.max_batch,
    })

engine = DiartEngine(local, shipped, **options)
engine._segmentation = lambda waveforms: torch.full((len(waveforms), 250, 1), 0.9)
[heard] = engine.infer([DiarizeWork(audio=work[0].audio, position=80_000, decided_to=64_000)])
found["recent"] = [
    [int(np.flatnonzero(heard.scores[:, one]).max()) + 1, bool(np.isfinite(heard.embeddings[one]).all())]
    for one in range(len(heard.owners))
]

engine._embedding = lambda waveforms, weights: torch.full((len(weights), 256), float("nan"))
[failure] = engine.infer(work[:1])
found["no numbers"] = failure.reason

class Broken:
    def __call__(self, waveforms):
        raise RuntimeError("secret words")

engine._segmentation = Broken()
found["failures"] = [one.reason if isinstance(one, Failure) else None for one in engine.infer(work)]
found["counts"] = engine.counts()

def problem(make):
    try:
        make()
    except NotReadyError as error:
        return str(error)
    return None

(folder / "torn.bin").write_bytes((folder / "segmentation.bin").read_bytes()[:5000])
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
found["problems"] = {
    "torn": problem(lambda: DiartEngine(find_model(str(folder / "torn.bin"), "segmentation"), shipped, **options)),
    "none": problem(lambda: find_model(str(folder / "none.bin"), "segmentation")),
    "hub": problem(lambda: find_model("organisation/other", "segmentation", cache=str(folder / "hub"), hub_timeout_seconds=0.5)),
    "exchanged": problem(lambda: DiartEngine(voices, local, **options)),
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path_factory.mktemp("models"))],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    document: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return document


def test_models_are_found_by_file_folder_and_hub_name(found: dict[str, Any]) -> None:
    local, hub, voices, shipped = found["revisions"]
    assert local.startswith("segmentation@")
    assert hub.startswith("organisation/segmentation@")
    assert local.rpartition("@")[2] == hub.rpartition("@")[2], "the same file"
    assert voices.startswith("pytorch_model@")
    assert shipped.startswith("shipped@")


def test_a_window_becomes_frames_and_voices(found: dict[str, Any]) -> None:
    for heard, dimensions in zip(found["heard"], (64, 256), strict=True):
        assert heard["is_same"]
        assert heard["batch"] == 1
        assert set(heard["owners"]) <= {0, 1, 2}
        assert 0.0 <= heard["range"][0] <= heard["range"][1] <= 1.0
        for frames, runs, voices, size in heard["shapes"]:
            assert frames == 250
            assert runs == voices
            assert size in (1, dimensions)
        assert any(size == dimensions for *_, size in heard["shapes"])


def test_stretches_of_which_all_is_decided_are_not_embedded(found: dict[str, Any]) -> None:
    assert {is_embedded for _, is_embedded in found["recent"]} == {True, False}
    for end, is_embedded in found["recent"]:
        assert is_embedded == (end > 200), "frames of the last second are 200 to 249"


def test_what_a_model_raises_is_a_failure_of_the_window_without_its_text(found: dict[str, Any]) -> None:
    assert found["failures"] == ["RuntimeError"] * 3
    assert found["counts"] == {"failures": 4}, "one more of the embedding"


def test_an_embedding_that_gives_no_numbers_has_failed(found: dict[str, Any]) -> None:
    assert found["no numbers"] == "FloatingPointError"


def test_a_model_that_cannot_be_had_is_named(found: dict[str, Any]) -> None:
    problems = found["problems"]
    assert "torn.bin" in problems["torn"]
    assert "no such file" in problems["none"]
    assert "cannot be reached" in problems["hub"]
    assert "organisation/other" in problems["hub"]
    assert problems["exchanged"] is not None
