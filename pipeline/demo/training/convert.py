"""Converts a checkpoint to the folder that faster-whisper loads: CTranslate2's model file, vocabulary and tokenizer.

The folder has only the tokens that training text can be spelled with, see `vocabulary`: the output layer over Whisper's 51 865
would take half of the decoder's time.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ctranslate2.converters import utils
from ctranslate2.specs import WhisperSpec, common_spec

from pipeline.core.errors import UsageError
from pipeline.demo.assets import MODEL, WHISPER_TOKENIZER
from pipeline.demo.training.network import Checkpoint
from pipeline.demo.training.vocabulary import TEXTS, cut_vocabulary

COPIED = "preprocessor_config.json"
EMBEDDING = "decoder.token_embedding.weight"  # one row per token; the output layer has the same
QUANTIZATION = "int8"

Weights = Mapping[str, npt.NDArray[np.float32]]


def convert(checkpoint: Checkpoint, folder: Path, *, quantization: str | None = QUANTIZATION) -> None:
    """Write ``model.bin``, ``config.json``, ``vocabulary.json`` and the tokenizer of a checkpoint into ``folder``.

    ``quantization`` is one of CTranslate2's, None for float32. Raises UsageError when the checkpoint has another
    vocabulary than Whisper's, or lacks weights.
    """
    from tokenizers import Tokenizer

    dims = checkpoint.dims
    whole = json.loads(WHISPER_TOKENIZER.read_text(encoding="utf-8"))
    if dims.n_vocab != (tokens := len(whole["model"]["vocab"]) + len(whole["added_tokens"])):
        raise UsageError(f"the checkpoint has {dims.n_vocab} tokens, the tokenizer {tokens}")
    cut = cut_vocabulary(whole, TEXTS)
    document = json.dumps(cut.document, ensure_ascii=False)
    vocabulary = Tokenizer.from_str(document).get_vocab()
    try:
        spec = _spec(checkpoint, cut.kept)
    except KeyError as error:
        raise UsageError(f"the checkpoint has no weights {error}") from None
    spec.register_vocabulary(sorted(vocabulary, key=vocabulary.__getitem__))
    spec.config.suppress_ids = []
    # At the beginning neither a blank nor the end of a transcript without a word.
    spec.config.suppress_ids_begin = [vocabulary["Ġ"], vocabulary["<|endoftext|>"]]
    last_half = range(dims.n_text_layer // 2, dims.n_text_layer)
    spec.config.alignment_heads = [list(head) for head in itertools.product(last_half, range(dims.n_text_head))]
    spec.config.lang_ids = list(range(vocabulary["<|startoftranscript|>"] + 1, vocabulary["<|translate|>"]))
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    (folder / "tokenizer.json").write_text(document + "\n", encoding="utf-8")
    shutil.copyfile(MODEL / COPIED, folder / COPIED)


def _spec(checkpoint: Checkpoint, kept: Sequence[int]) -> Any:
    """Return CTranslate2's description of the network with the ``kept`` tokens; OpenAI's names on the right.

    The weights are copies: CTranslate2 quantizes in place.
    """
    dims = checkpoint.dims
    weights = {name: tensor.numpy().copy() for name, tensor in checkpoint.weights.items()}
    weights[EMBEDDING] = weights[EMBEDDING][list(kept)]
    spec = WhisperSpec(dims.n_audio_layer, dims.n_audio_head, dims.n_text_layer, dims.n_text_head)
    for name in ("conv1", "conv2"):
        _set_linear(getattr(spec.encoder, name), weights, f"encoder.{name}")
    spec.encoder.position_encodings.encodings = weights["encoder.positional_embedding"]
    _set_norm(spec.encoder.layer_norm, weights, "encoder.ln_post")
    spec.decoder.embeddings.weight = weights[EMBEDDING]
    spec.decoder.projection.weight = weights[EMBEDDING]
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
