"""Converts a checkpoint to the folder that faster-whisper loads: CTranslate2's model file, vocabulary and tokenizer."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ctranslate2.converters import utils
from ctranslate2.specs import WhisperSpec, common_spec

from pipeline.core.errors import UsageError
from pipeline.demo.assets import MODEL
from pipeline.demo.training.batches import whisper_tokenizer
from pipeline.demo.training.network import Checkpoint

COPIED = ("tokenizer.json", "preprocessor_config.json")  # the vocabulary is Whisper's own and is not trained
QUANTIZATION = "int8"

Weights = Mapping[str, npt.NDArray[np.float32]]


def convert(checkpoint: Checkpoint, folder: Path, *, quantization: str | None = QUANTIZATION) -> None:
    """Write ``model.bin``, ``config.json``, ``vocabulary.json`` and the tokenizer of a checkpoint into ``folder``.

    ``quantization`` is one of CTranslate2's, None for float32. Raises UsageError when the checkpoint has another
    vocabulary than the shipped model's, or lacks weights.
    """
    dims = checkpoint.dims
    tokenizer = whisper_tokenizer()
    vocabulary = tokenizer.tokenizer.get_vocab()
    if dims.n_vocab != len(vocabulary):
        raise UsageError(f"the checkpoint has {dims.n_vocab} tokens, the tokenizer {len(vocabulary)}")
    try:
        spec = _spec(checkpoint)
    except KeyError as error:
        raise UsageError(f"the checkpoint has no weights {error}") from None
    spec.register_vocabulary(sorted(vocabulary, key=vocabulary.__getitem__))
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [vocabulary["Ġ"], tokenizer.eot]  # a blank, and a transcript without a word
    last_half = range(dims.n_text_layer // 2, dims.n_text_layer)
    spec.config.alignment_heads = [list(head) for head in itertools.product(last_half, range(dims.n_text_head))]
    spec.config.lang_ids = list(range(tokenizer.sot + 1, tokenizer.translate))
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    for name in COPIED:
        shutil.copyfile(MODEL / name, folder / name)


def _spec(checkpoint: Checkpoint) -> Any:
    """Return CTranslate2's description of the network, filled with the weights; OpenAI's names on the right."""
    dims = checkpoint.dims
    weights = {name: tensor.numpy() for name, tensor in checkpoint.weights.items()}
    spec = WhisperSpec(dims.n_audio_layer, dims.n_audio_head, dims.n_text_layer, dims.n_text_head)
    for name in ("conv1", "conv2"):
        _set_linear(getattr(spec.encoder, name), weights, f"encoder.{name}")
    spec.encoder.position_encodings.encodings = weights["encoder.positional_embedding"]
    _set_norm(spec.encoder.layer_norm, weights, "encoder.ln_post")
    spec.decoder.embeddings.weight = weights["decoder.token_embedding.weight"]
    spec.decoder.projection.weight = weights["decoder.token_embedding.weight"]
    spec.decoder.position_encodings.encodings = weights["decoder.positional_embedding"]
    _set_norm(spec.decoder.layer_norm, weights, "decoder.ln")
    for half, layers in (("encoder", spec.encoder.layer), ("decoder", spec.decoder.layer)):
        for number, layer in enumerate(layers):
            name = f"{half}.blocks.{number}"
            _set_attention(layer.self_attention, weights, f"{name}.attn", fused=(("query", "key", "value"),))
            if half == "decoder":
                _set_attention(layer.attention, weights, f"{name}.cross_attn", fused=(("query",), ("key", "value")))
            _set_linear(layer.ffn.linear_0, weights, f"{name}.mlp.0")
            _set_linear(layer.ffn.linear_1, weights, f"{name}.mlp.2")
            _set_norm(layer.ffn.layer_norm, weights, f"{name}.mlp_ln")
    return spec


def _set_attention(spec: Any, weights: Weights, name: str, *, fused: tuple[tuple[str, ...], ...]) -> None:
    """Fill an attention, whose projections CTranslate2 multiplies together as ``fused`` groups them."""
    for linear, group in zip(spec.linear, fused, strict=False):
        parts = [common_spec.LinearSpec() for _ in group]
        for part, projection in zip(parts, group, strict=True):
            _set_linear(part, weights, f"{name}.{projection}")
        utils.fuse_linear(linear, parts)
    _set_linear(spec.linear[-1], weights, f"{name}.out")
    _set_norm(spec.layer_norm, weights, f"{name}_ln")


def _set_linear(spec: Any, weights: Weights, name: str) -> None:
    spec.weight = weights[f"{name}.weight"]
    if f"{name}.bias" in weights:
        spec.bias = weights[f"{name}.bias"]


def _set_norm(spec: Any, weights: Weights, name: str) -> None:
    spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]
