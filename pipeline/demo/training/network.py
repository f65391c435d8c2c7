"""The Whisper network in torch, with the names and shapes of OpenAI's checkpoints, and those checkpoints on disk.

Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022. Windows may be shorter than 30 s: the
encoder's positions are cut to the window, as CTranslate2 does.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.errors import UsageError

FFT_SAMPLES, HOP_SAMPLES = 400, 160
FRAME_SAMPLES = 320  # of audio per output of the encoder


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The sizes of a network, by the names that OpenAI's checkpoints have for them. The defaults are the demo model's."""

    n_mels: int = 80
    n_audio_ctx: int = 1500
    n_audio_state: int = 128
    n_audio_head: int = 2
    n_audio_layer: int = 4
    n_vocab: int = 51865
    n_text_ctx: int = 448
    n_text_state: int = 128
    n_text_head: int = 2
    n_text_layer: int = 2


class Attention(nn.Module):
    """Multi-head attention; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, *, is_causal: bool = False) -> Tensor:
        """Return what ``x`` (batch, n, width) finds in ``memory`` (batch, m, width); shape of ``x``."""
        query, key, value = (self._split(part) for part in (self.query(x), self.key(memory), self.value(memory)))
        found = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        return self.out(found.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """A layer of the encoder, or, with ``is_decoder``, of the decoder."""

    def __init__(self, width: int, heads: int, *, is_decoder: bool) -> None:
        super().__init__()
        self.is_decoder = is_decoder
        self.attn, self.attn_ln = Attention(width, heads), nn.LayerNorm(width)
        if is_decoder:
            self.cross_attn, self.cross_attn_ln = Attention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: Tensor, audio: Tensor | None = None) -> Tensor:
        """Return the layer's output for ``x`` (batch, n, width); ``audio`` is the encoder's output, for the decoder."""
        normal = self.attn_ln(x)
        x = x + self.attn(normal, normal, is_causal=self.is_decoder)
        if self.is_decoder:
            x = x + self.cross_attn(self.cross_attn_ln(x), audio)
        return x + self.mlp(self.mlp_ln(x))


class Encoder(nn.Module):
    """Mel spectrograms to one vector per 20 ms."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        width = dims.n_audio_state
        self.conv1 = nn.Conv1d(dims.n_mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", _sinusoids(dims.n_audio_ctx, width))
        self.blocks = nn.ModuleList(
            Block(width, dims.n_audio_head, is_decoder=False) for _ in range(dims.n_audio_layer)
        )
        self.ln_post = nn.LayerNorm(width)

    def forward(self, mel: Tensor) -> Tensor:
        """Return (batch, frames / 2, width) for log-mel spectrograms (batch, mels, frames)."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.positional_embedding[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x)


class Decoder(nn.Module):
    """Tokens so far, and the encoder's output, to a vector for each next token."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        width = dims.n_text_state
        self.token_embedding = nn.Embedding(dims.n_vocab, width)
        self.positional_embedding = nn.Parameter(torch.zeros(dims.n_text_ctx, width))
        self.blocks = nn.ModuleList(Block(width, dims.n_text_head, is_decoder=True) for _ in range(dims.n_text_layer))
        self.ln = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, audio: Tensor) -> Tensor:
        """Return (batch, n, width) for tokens (batch, n). Times the token embedding, those are the scores of the tokens."""
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, audio)
        return self.ln(x)


class Whisper(nn.Module):
    """Encoder and decoder; ``dims`` are their sizes."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.dims = dims
        self.encoder, self.decoder = Encoder(dims), Decoder(dims)

    def initialise(self) -> None:
        """Draw the weights of a network that knows nothing, from torch's own generator."""
        for name, weights in self.named_parameters():
            if name == "decoder.token_embedding.weight":
                nn.init.normal_(weights, std=0.02)
            elif weights.dim() == 2:
                nn.init.xavier_uniform_(weights)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights by name, float32, and what training keeps beside them: empty in a checkpoint of OpenAI's."""

    dims: Dimensions
    weights: Mapping[str, Tensor]
    training: Mapping[str, Any]

    def network(self) -> Whisper:
        """Return the network with these weights. Raises UsageError when they are not those of its sizes."""
        network = Whisper(self.dims)
        try:
            network.load_state_dict(dict(self.weights))
        except RuntimeError:
            raise UsageError("the checkpoint's weights do not fit the sizes it states") from None
        return network


def load_checkpoint(path: Path) -> Checkpoint:
    """Return a checkpoint in OpenAI's layout: ``dims`` and ``model_state_dict``. Raises UsageError naming the file."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: tensor.float() for name, tensor in stored["model_state_dict"].items()}
        return Checkpoint(Dimensions(**stored["dims"]), weights, stored.get("training", {}))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such checkpoint") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a checkpoint of a Whisper network ({type(error).__name__})") from None


def save_checkpoint(path: Path, network: Whisper, training: Mapping[str, Any]) -> None:
    """Write a checkpoint in OpenAI's layout; the file is replaced when the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    stored = {"dims": asdict(network.dims), "model_state_dict": network.state_dict(), "training": dict(training)}
    torch.save(stored, partial)
    os.replace(partial, path)


def log_mel(audio: Tensor) -> Tensor:
    """Return the log-mel spectrogram of every row: (batch, samples) at 16 kHz to (batch, 80, samples / 160).

    The same figures as faster-whisper's feature extractor gives, each row on its own: 8 decades below the row's loudest.
    """
    filters, window = _mel_filters()
    spectrum = torch.stft(audio, FFT_SAMPLES, HOP_SAMPLES, window=window, return_complex=True)[..., :-1].abs() ** 2
    mel = torch.clamp(filters @ spectrum, min=1e-10).log10()
    return (torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


@lru_cache(maxsize=1)
def _mel_filters() -> tuple[Tensor, Tensor]:
    from faster_whisper.feature_extractor import FeatureExtractor

    filters = FeatureExtractor.get_mel_filters(16_000, FFT_SAMPLES, n_mels=80).astype(np.float32)
    return torch.from_numpy(filters), torch.hann_window(FFT_SAMPLES)


def _sinusoids(length: int, width: int) -> Tensor:
    """Return sines, then cosines, of positions at wavelengths from 2 pi to 20 000 pi: (length, width)."""
    step = math.log(10_000) / (width // 2 - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-step * torch.arange(width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1)
