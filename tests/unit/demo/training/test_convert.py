"""A converted network computes what the network does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
from faster_whisper.tokenizer import Tokenizer
from tokenizers import Tokenizer as Vocabulary

torch = pytest.importorskip("torch")

from pipeline.core.errors import UsageError  # noqa: E402 - behind the check for torch
from pipeline.demo.assets import MODEL  # noqa: E402
from pipeline.demo.training.batches import whisper_tokenizer  # noqa: E402
from pipeline.demo.training.convert import convert  # noqa: E402
from pipeline.demo.training.network import Checkpoint  # noqa: E402


def cut_tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer(Vocabulary.from_file(str(folder / "tokenizer.json")), True, task="transcribe", language="en")


def tokens_of(folder: Path) -> list[str]:
    return [str(token) for token in json.loads((folder / "vocabulary.json").read_text())]


@pytest.fixture
def checkpoint(network: Any) -> Checkpoint:
    with torch.no_grad():
        for weights in network.parameters():  # biases and norms too, so that one that is left out is seen
            weights += 0.1 * torch.randn_like(weights)
    return Checkpoint(network.dims, network.state_dict(), {})


def test_converted_network_computes_the_same(checkpoint: Checkpoint, network: Any, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path, quantization=None)
    model = ctranslate2.models.Whisper(str(tmp_path), compute_type="float32", intra_threads=1)
    whole, tokenizer = whisper_tokenizer(), cut_tokenizer(tmp_path)
    mel = np.random.RandomState(1).standard_normal((1, 80, 60)).astype(np.float32)
    head = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
    prompt = [*head, *tokenizer.encode(" Thank you.")]

    encoded = model.encode(ctranslate2.StorageView.from_array(mel), to_cpu=True)
    result = model.generate(
        encoded, [prompt], beam_size=1, max_length=len(prompt) + 1, return_logits_vocab=True, suppress_tokens=[]
    )[0]

    with torch.no_grad():
        heard = network.encoder(torch.from_numpy(mel))
        before = [*whole.sot_sequence, whole.no_timestamps, *whole.encode(" Thank you.")]
        scores = network.decoder(torch.tensor([before]), heard)[0] @ network.decoder.token_embedding.weight.T
    kept = [whole.tokenizer.token_to_id(token) for token in tokens_of(tmp_path)]
    np.testing.assert_allclose(np.array(encoded), heard.numpy(), atol=1e-4)
    for found, expected in zip(result.logits[0][:3], scores[len(head) - 1 : -1], strict=True):
        np.testing.assert_allclose(np.array(found), expected.numpy()[kept], atol=1e-3)


def test_converting_leaves_the_checkpoint_as_it_was(checkpoint: Checkpoint, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    for name in ("first", "second"):
        convert(checkpoint, tmp_path / name)
    assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint.weights.items())
    assert (tmp_path / "first" / "model.bin").read_bytes() == (tmp_path / "second" / "model.bin").read_bytes()


def test_special_tokens_in_the_configuration_are_those_of_the_cut_vocabulary(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    convert(checkpoint, tmp_path)
    tokens = tokens_of(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert [tokens[number] for number in config["suppress_ids_begin"]] == ["Ġ", "<|endoftext|>"]
    languages = [tokens[number] for number in config["lang_ids"]]
    assert (len(languages), languages[:2], languages[-1]) == (99, ["<|en|>", "<|zh|>"], "<|su|>")
    vocabulary = cut_tokenizer(tmp_path).tokenizer.get_vocab()
    assert tokens == sorted(vocabulary, key=vocabulary.__getitem__)


def test_files_are_those_of_the_shipped_model(checkpoint: Checkpoint, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path)
    for name in ("vocabulary.json", "tokenizer.json", "preprocessor_config.json"):
        assert (tmp_path / name).read_bytes() == (MODEL / name).read_bytes()
    config, shipped = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, MODEL))
    assert config == shipped  # two decoder layers of two heads each, as the shipped one has


def test_other_vocabulary_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="51864 tokens, the tokenizer 51865"):
        convert(replace(checkpoint, dims=replace(checkpoint.dims, n_vocab=51864)), tmp_path)


def test_missing_weights_are_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in checkpoint.weights.items() if name != "decoder.blocks.1.mlp.0.weight"}
    with pytest.raises(UsageError, match=r"decoder\.blocks\.1\.mlp\.0\.weight"):
        convert(replace(checkpoint, weights=weights), tmp_path)
