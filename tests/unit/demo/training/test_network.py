"""The network and its checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

torch = pytest.importorskip("torch")

from pipeline.core.errors import UsageError  # noqa: E402 - behind the check for torch
from pipeline.demo.training.network import load_checkpoint, log_mel, save_checkpoint  # noqa: E402


def test_spectrogram_is_the_one_the_recogniser_computes() -> None:
    audio = np.random.RandomState(1).standard_normal((2, 8000)).astype(np.float32) * np.array([[0.1], [0.001]])
    audio[1, 4000:] = 0
    found = log_mel(torch.from_numpy(audio.astype(np.float32))).numpy()
    assert found.shape == (2, 80, 50)
    for row, samples in zip(found, audio.astype(np.float32), strict=True):
        np.testing.assert_allclose(row, FeatureExtractor()(samples, padding=0), atol=2e-4)


def test_shapes_and_that_the_decoder_cannot_see_ahead(network: Any) -> None:
    with torch.no_grad():
        audio = network.encoder(torch.randn(2, 80, 100))
        tokens = torch.tensor([[50258, 50259, 5, 6], [50258, 50259, 5, 7]])
        found = network.decoder(tokens, audio[:1].expand(2, -1, -1))
    assert audio.shape == (2, 50, 16)
    assert found.shape == (2, 4, 16)
    torch.testing.assert_close(found[0, :3], found[1, :3])
    assert not torch.allclose(found[0, 3], found[1, 3])


def test_checkpoint_comes_back_with_what_training_kept(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint.pt"
    save_checkpoint(path, network, {"step": 3})
    found = load_checkpoint(path)
    assert found.dims == network.dims
    assert found.training == {"step": 3}
    again = found.network().state_dict()
    assert all(torch.equal(again[name], weights) for name, weights in network.state_dict().items())
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_half_precision_checkpoint_without_training_is_read(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "whisper.pt"
    weights = {name: tensor.half() for name, tensor in network.state_dict().items()}
    torch.save({"dims": asdict(network.dims), "model_state_dict": weights}, path)
    found = load_checkpoint(path)
    assert {tensor.dtype for tensor in found.weights.values()} == {torch.float32}
    assert found.training == {}


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", {"model_state_dict": {}}, {"dims": {}}, [1]])
def test_what_is_no_checkpoint_is_named(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UsageError, match=r"checkpoint\.pt: (no such|not a) checkpoint"):
        load_checkpoint(path)


def test_weights_of_other_sizes_are_refused(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"dims": asdict(network.dims) | {"n_text_layer": 1}, "model_state_dict": network.state_dict()}, path)
    with pytest.raises(UsageError, match="do not fit"):
        load_checkpoint(path).network()
