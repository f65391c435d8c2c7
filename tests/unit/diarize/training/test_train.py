"""Training: the loss does not ask which local speaker is which, it falls, and the same plan gives the same weights."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchaudio")

from pipeline.core.errors import FailedError, NotReadyError  # noqa: E402 - behind the check for torch
from pipeline.diarize.card import ENCODER, FOLDER  # noqa: E402
from pipeline.diarize.encoder import SpeakerEncoder  # noqa: E402
from pipeline.diarize.segmentation import SETS, FrameFeatures  # noqa: E402
from pipeline.diarize.training.evaluate import load_head  # noqa: E402
from pipeline.diarize.training.examples import Shard  # noqa: E402
from pipeline.diarize.training.plan import Plan  # noqa: E402
from pipeline.diarize.training.train import (  # noqa: E402
    Trainer,
    batches,
    first_of,
    permutation_invariant_loss,
    set_numbers,
    train,
)

pytestmark = [pytest.mark.diarization, pytest.mark.usefixtures("one_thread")]


def test_features_are_those_of_the_whole_encoder() -> None:
    torch.manual_seed(1)
    encoder = SpeakerEncoder.load(FOLDER / ENCODER)
    samples = torch.randn(2, 32_000) * torch.tensor([[0.1], [0.001]])
    with torch.inference_mode():
        found = FrameFeatures(encoder)(samples)
        loudest = samples.unfold(1, 16_000, 4_000).square().mean(dim=2).amax(dim=1)  # of the seconds, to -25 dBFS
        mel = (encoder.mel(samples)[:, :, :200] * (10**-2.5 / loudest)[:, None, None]).transpose(1, 2)
        third, _ = encoder.lstm(mel)
        layer = torch.nn.LSTM(40, 256, batch_first=True)
        layer.load_state_dict(
            {name: value for name, value in encoder.lstm.state_dict().items() if name.endswith("_l0")}
        )
        first, _ = layer(mel)
        wanted = torch.cat([torch.log(mel + 1e-6) / 4 + 1.5, first, third], dim=2).reshape(2, 100, 2, 552).mean(dim=2)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_targets_are_sets_of_at_most_two() -> None:
    active = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]).bool()
    assert [SETS[number] for number in set_numbers(active).tolist()] == [(), (1,), (2,), (0, 2), (1, 2), (0, 1)]


def test_loss_does_not_ask_who_is_who() -> None:
    torch.manual_seed(1)
    active = torch.rand(3, 40, 3) < 0.4
    active &= active.cumsum(2) <= 2
    scores = torch.log_softmax(torch.randn(3, 40, len(SETS)), dim=-1)
    losses = [permutation_invariant_loss(scores, active[:, :, list(order)]).item() for order in permutations(range(3))]
    assert losses == pytest.approx([losses[0]] * 6)
    sure = torch.full((3, 40, len(SETS)), -50.0).scatter(2, set_numbers(active)[:, :, None], 0.0)
    assert permutation_invariant_loss(sure, active[:, :, [1, 2, 0]]).item() == 0
    one_by_one = [permutation_invariant_loss(scores[[at]], active[[at]]).item() for at in range(3)]
    assert sum(one_by_one) / 3 == pytest.approx(losses[0])  # every window is numbered on its own


def test_loss_falls(shards: list[Shard]) -> None:
    trainer = Trainer(shards, 1)
    features, active = next(batches(shards, 1))
    losses = [trainer.step(features, active, 3e-3) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]
    with pytest.raises(FailedError, match="not finite"):
        trainer.step(features * float("nan"), active, 3e-3)


def test_same_plan_same_weights(shards: list[Shard], tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        lines = list(train(shards, shards, tmp_path, Plan(seed=1, steps=3)))
        runs.append((tmp_path / "segmentation.pt").read_bytes())
    assert "done: validation error" in lines[-1]
    assert runs[0] == runs[1]
    assert json.loads((tmp_path / "training.json").read_text()) == {
        "seed": 1, "steps": 3, "batch": 32, "examples": 40, "learning_rate": 2e-3, "is_repeatable": True
    }  # fmt: skip
    assert load_head(tmp_path / "segmentation.pt").std[3].item() == pytest.approx(1e-3, rel=0.1)


def test_every_example_is_seen_once_before_it_is_seen_again(shards: list[Shard]) -> None:
    two = [Shard(features=shards[0].features[:32], active=shards[0].active[:32])] * 2
    for _, one in zip(range(4), batches(two, 1), strict=False):
        assert one[0].shape == (32, 40, 552)
    with pytest.raises(NotReadyError, match="31 examples are too few"):
        next(batches([Shard(features=shards[0].features[:31], active=shards[0].active[:31])], 1))
    assert [len(one.active) for one in first_of(two, 40)] == [32, 8]
