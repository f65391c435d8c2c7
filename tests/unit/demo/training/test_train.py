"""Training: it learns, the same plan gives the same weights, and an interruption changes nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from pipeline.core.errors import FailedError  # noqa: E402 - behind the check for torch
from pipeline.demo.training import batches, train  # noqa: E402
from pipeline.demo.training.augment import Example  # noqa: E402
from pipeline.demo.training.batches import collate, tokens_in_use  # noqa: E402
from pipeline.demo.training.network import load_checkpoint, save_checkpoint  # noqa: E402
from pipeline.demo.training.plan import Plan  # noqa: E402
from pipeline.demo.training.speech import RATE, Clip  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sum in one order, and leave torch as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def start(network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkpoint to start from, and make training quick: small batches, no whole windows."""
    monkeypatch.setattr(batches, "WINDOW_SHARE", 0.0)
    monkeypatch.setattr(batches, "JOINED_BATCH", 2)
    monkeypatch.setattr(batches, "SINGLE_BATCH", 2)
    monkeypatch.setattr(train, "SPELLING_STEPS", 1)
    monkeypatch.setattr(train, "MAX_TOKENS", 3)
    path = tmp_path / "start.pt"
    save_checkpoint(path, network, {})
    return path


def batch_of(clips: list[Clip]) -> batches.Batch:
    examples = [Example(audio=clip.audio.astype("float32") / 32768, sentences=clip.sentences) for clip in clips]
    return collate(examples, samples=RATE)


def weights_of(path: Path) -> dict[str, Any]:
    return dict(load_checkpoint(path).weights)


def are_equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_losses_fall(network: Any, clips: list[Clip]) -> None:
    trainer, batch = train.Trainer(network), batch_of(clips[:3])
    losses = [trainer.step(batch, 2e-2) for _ in range(12)]
    assert losses[-1][0] < 0.7 * losses[0][0]
    assert losses[-1][1] < 0.7 * losses[0][1]


def test_loss_over_the_tokens_in_use_is_that_over_all_with_the_others_as_one(network: Any, clips: list[Clip]) -> None:
    trainer, batch = train.Trainer(network), batch_of(clips[:2])
    with torch.no_grad():
        found, _ = trainer.losses(batch)
        scored = batch.targets != batches.IGNORED
        hidden = network.decoder(batch.inputs, network.encoder(batch.mel))[scored]
        used = tokens_in_use()
        first_unused = min(set(range(network.dims.n_vocab)) - set(used))
        scores = (hidden @ network.decoder.token_embedding.weight.T)[:, [*used, first_unused]]
        wanted = torch.tensor([used.index(token) for token in batch.targets[scored].tolist()])
        expected = torch.nn.functional.cross_entropy(scores, wanted, label_smoothing=train.LABEL_SMOOTHING)
    torch.testing.assert_close(found, expected)


def test_unused_tokens_share_a_row_and_the_others_keep_theirs(network: Any) -> None:
    trainer, used = train.Trainer(network), tokens_in_use()
    before = network.decoder.token_embedding.weight.detach().clone()
    trainer.share_unused()
    after = network.decoder.token_embedding.weight.detach()
    unused = sorted(set(range(network.dims.n_vocab)) - set(used))
    assert torch.equal(after[used], before[used])
    assert (after[unused] == before[unused[0]]).all()


def test_learning_to_spell_leaves_the_network_alone(network: Any, clips: list[Clip]) -> None:
    trainer, batch = train.Trainer(network), batch_of(clips[:3])
    before = {name: weights.clone() for name, weights in network.state_dict().items()}
    _, first = trainer.losses(batch)
    trainer.learn_spelling(iter([batch] * 10))
    _, last = trainer.losses(batch)
    assert last < first
    assert are_equal(before, network.state_dict())


def test_loss_that_is_not_finite_stops_training(network: Any, clips: list[Clip]) -> None:
    trainer = train.Trainer(network)
    with torch.no_grad():
        network.decoder.ln.bias.fill_(float("nan"))
    with pytest.raises(FailedError, match="not finite"):
        trainer.step(batch_of(clips[:1]), 1e-3)


def test_interrupted_training_ends_with_the_same_weights(
    start: Path, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(seed=3, steps=4, start=start)
    whole, broken = tmp_path / "whole.pt", tmp_path / "broken.pt"
    assert "done: word error rate" in list(train.train(clips, clips[:1], whole, plan))[-1]

    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(train, "REPORT_STEPS", 1)
    lines = train.train(clips, clips[:1], broken, plan)
    while not next(lines).startswith("step 3,"):
        pass
    lines.close()  # step 3 is not saved yet
    assert load_checkpoint(broken).training["step"] == 2
    rest = list(train.train(clips, clips[:1], broken, Plan(seed=3, steps=4)))
    assert "after step 2" in rest[0]
    assert are_equal(weights_of(whole), weights_of(broken))
    assert not are_equal(weights_of(whole), weights_of(start))


def test_complete_checkpoint_is_kept_unless_a_start_is_given(start: Path, clips: list[Clip], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    list(train.train(clips, clips[:1], path, Plan(seed=3, steps=1, start=start)))
    content = path.read_bytes()
    [line] = train.train(clips, clips[:1], path, Plan(seed=3, steps=5))
    assert "is complete" in line
    assert path.read_bytes() == content

    again = list(train.train(clips, clips[:1], path, Plan(seed=3, steps=1, start=path)))
    assert f"starting with {path}" in again[0]
    assert not any("no CTC layer" in line for line in again)
    assert path.read_bytes() != content


def test_new_network_begins_with_short_clips(
    network: Any, start: Path, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def draw_batch(ordered: list[Clip], source: random.Random, *, has_short_clips_only: bool) -> batches.Batch:
        asked.append(has_short_clips_only)
        return batch_of(ordered[:1])

    monkeypatch.setattr(train, "draw_batch", draw_batch)
    monkeypatch.setattr(train, "SHORT_CLIPS_SHARE", 0.5)
    monkeypatch.setattr(train, "Dimensions", lambda: network.dims)
    list(train.train(clips, clips[:1], tmp_path / "new.pt", Plan(seed=3, steps=4)))
    assert asked == [True, True, False, False]


def test_transcripts_are_one_per_clip(network: Any, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = batches.whisper_tokenizer()
    spoken = {clip.sentences[0].text: tokenizer.encode(f" {clip.sentences[0].text}") for clip in clips[:3]}
    monkeypatch.setattr(train, "_greedy", lambda network, audio: list(spoken.values())[: len(audio)])
    texts = train.transcribe(network, clips[:5], batch_clips=3)
    assert texts == [*spoken, *list(spoken)[:2]]
