"""Real CTranslate2 Whisper models of any size with random weights, made with NumPy alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from ctranslate2.specs import WhisperSpec
from numpy.typing import NDArray

from pipeline.asr.hypothesis import AsrWork
from pipeline.asr.profiles import ModelProfile
from pipeline.demo.assets import MODEL, WHISPER_TOKENIZER

POSITIONS = 448
SPECIAL = ("startoftranscript", "en", "translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")


def make_model(
    folder: Path, *, is_english: bool = False, width: int = 32, bins: int = 80, gain: float = 1.0, end_bias: float = 0.0
) -> Path:
    """Write a model with one encoder and one decoder layer, ``width`` wide, and return its folder.

    The multilingual ones have Whisper's vocabulary, an English one has bytes as tokens. ``gain`` multiplies the
    weights of the last norm (NaN: a broken model), ``end_bias`` favours the end of the text.
    """
    folder.mkdir(parents=True)
    if is_english:
        vocabulary = _bytes_vocabulary(folder / "tokenizer.json")
        config: dict[str, Any] = {"lang_ids": []}
    else:
        vocabulary = _whisper_vocabulary()
        (folder / "tokenizer.json").symlink_to(WHISPER_TOKENIZER)
        first, end = (vocabulary.index(f"<|{name}|>") for name in ("startoftranscript", "translate"))
        config = {"lang_ids": list(range(first + 1, end))}
    spec = WhisperSpec(1, 2, 1, 2)
    random = np.random.default_rng(width)
    _fill(spec, random, width=width, bins=bins, tokens=len(vocabulary))
    spec.decoder.layer_norm.gamma = np.full(width, gain, dtype=np.float32)
    bias = np.zeros(len(vocabulary), dtype=np.float32)
    bias[vocabulary.index("<|endoftext|>")] = end_bias
    spec.decoder.projection.bias = bias
    spec.register_vocabulary(vocabulary)
    for name, value in {**config, "suppress_ids": [], "suppress_ids_begin": [], "alignment_heads": [[0, 0]]}.items():
        setattr(spec.config, name, value)
    spec.validate()
    spec.optimize(quantization="float32")
    spec.save(str(folder))
    return folder


def shipped_model(folder: Path) -> Path:
    """Link the shipped model, without its card, into a new folder, and return that."""
    folder.mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.json"):
        (folder / name).symlink_to(MODEL / name)
    return folder


def profile(name: str = "random", **changes: Any) -> ModelProfile:
    return ModelProfile(name=name, revision=f"{name}@0", **changes)


def window(seconds: float = 2.0, **changes: Any) -> AsrWork:
    """Return a window of quiet noise."""
    noise = np.random.default_rng(1).integers(-3_000, 3_000, round(16_000 * seconds))
    return work(noise.astype(np.int16), **changes)


def work(audio: NDArray[np.int16], **changes: Any) -> AsrWork:
    given: dict[str, Any] = {
        "audio": audio,
        "prefix": (),
        "prompt_tokens": (),
        "prompt": None,
        "hot_words": (),
        "language": "en",
        "is_final": False,
    }
    return AsrWork(**{**given, **changes})


def _fill(spec: Any, random: np.random.Generator, *, width: int, bins: int, tokens: int) -> None:
    def linear(target: Any, outputs: int, inputs: int) -> None:
        target.weight = random.standard_normal((outputs, inputs), dtype=np.float32) / np.float32(inputs**0.5)
        target.bias = np.zeros(outputs, dtype=np.float32)

    def norm(target: Any) -> None:
        target.gamma, target.beta = np.ones(width, dtype=np.float32), np.zeros(width, dtype=np.float32)

    def attention(target: Any, shapes: Sequence[int]) -> None:
        norm(target.layer_norm)
        for layer, outputs in zip(target.linear, shapes, strict=True):
            linear(layer, outputs * width, width)

    def feed_forward(target: Any) -> None:
        norm(target.layer_norm)
        linear(target.linear_0, 4 * width, width)
        linear(target.linear_1, width, 4 * width)

    for convolution, inputs in ((spec.encoder.conv1, bins), (spec.encoder.conv2, width)):
        convolution.weight = random.standard_normal((width, inputs, 3), dtype=np.float32) / np.float32(inputs)
        convolution.bias = np.zeros(width, dtype=np.float32)
    spec.encoder.position_encodings.encodings = 0.1 * random.standard_normal((1500, width), dtype=np.float32)
    spec.decoder.position_encodings.encodings = 0.1 * random.standard_normal((POSITIONS, width), dtype=np.float32)
    spec.decoder.embeddings.weight = random.standard_normal((tokens, width), dtype=np.float32)
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    for half in (spec.encoder, spec.decoder):
        norm(half.layer_norm)
        attention(half.layer[0].self_attention, (3, 1))
        feed_forward(half.layer[0].ffn)
    attention(spec.decoder.layer[0].attention, (1, 2, 1))


@lru_cache(maxsize=1)
def _whisper_vocabulary() -> list[str]:
    document = json.loads(WHISPER_TOKENIZER.read_text(encoding="utf-8"))
    ids = {**document["model"]["vocab"], **{token["content"]: token["id"] for token in document["added_tokens"]}}
    return sorted(ids, key=ids.__getitem__)


def _bytes_vocabulary(path: Path) -> list[str]:
    """Write a tokenizer whose tokens are bytes and the special ones; return its vocabulary."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={sign: index for index, sign in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([f"<|{name}|>" for name in ("endoftext", *SPECIAL)])
    tokenizer.save(str(path))
    return [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
