"""The shipped segmentation model: who of at most three local speakers speaks in each 20 ms of a window.

A small network on top of the speaker encoder's own layers: those were trained on the voices of thousands of people, so a network that
has only ever heard synthetic conversations tells people apart too. As in A. Plaquet, H. Bredin, "Powerset multi-class cross entropy
loss for neural speaker diarization" (Interspeech 2023), its classes are the sets of at most two speakers. ``model/MODEL_CARD.md`` says
how it was trained and what it reaches, `pipeline.diarize.training` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import torch

from pipeline.diarize.encoder import BANDS, DIMENSIONS, HOP, RATE, SpeakerEncoder

SPEAKERS = 3
SETS: tuple[tuple[int, ...], ...] = (
    (),
    *((one,) for one in range(SPEAKERS)),
    *combinations(range(SPEAKERS), 2),
)
FEATURES = BANDS + 2 * DIMENSIONS
LOUDEST_SECONDS = 1.0  # the loudest such stretch of a window is brought to one level
POWER = 10**-2.5
FRAME_HOPS = 2  # mel frames of a frame
TOGETHER = 2  # frames that the head works on as one


class FrameFeatures(torch.nn.Module):
    """float32 [batch, samples] at 16 kHz to [batch, frames of 20 ms, 552]: log mel, and the encoder's first and last layer."""

    def __init__(self, encoder: SpeakerEncoder) -> None:
        super().__init__()
        self.mel = encoder.mel
        self.layers = torch.nn.ModuleList(
            torch.nn.LSTM(BANDS if layer == 0 else DIMENSIONS, DIMENSIONS, batch_first=True) for layer in range(3)
        )
        for index, layer in enumerate(self.layers):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(layer, f"{name}_l0").data.copy_(getattr(encoder.lstm, f"{name}_l{index}").data)
        self.requires_grad_(False)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the features; what does not fill a frame is left out."""
        length = min(round(LOUDEST_SECONDS * RATE), samples.shape[1])
        power = torch.nn.functional.avg_pool1d(samples.square()[:, None], length, max(1, length // 4))[:, 0]
        gain = POWER / power.amax(dim=1).clamp(min=1e-7)
        frames = samples.shape[1] // (HOP * FRAME_HOPS) * FRAME_HOPS
        mel = (self.mel(samples)[:, :, :frames] * gain[:, None, None]).transpose(1, 2)
        hidden, outputs = mel, []
        for layer in self.layers:
            hidden, _ = layer(hidden)
            outputs.append(hidden)
        features = torch.cat([torch.log(mel + 1e-6) / 4 + 1.5, outputs[0], outputs[-1]], dim=2)
        return features.unflatten(1, (-1, FRAME_HOPS)).mean(dim=2)


class SegmentationHead(torch.nn.Module):
    """Frame features, float32 [batch, frames, 552], to log probabilities of `SETS`, [batch, frames, 7].

    Two recurrent layers say where speech begins and ends; between them every frame attends to all others, which is how a voice is
    recognised that was heard earlier in the window. Frames are taken `TOGETHER` at a time, of which each is still decided by itself.
    """

    def __init__(self, *, width: int = 128, blocks: int = 2, dropout: float = 0.15) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("std", torch.ones(FEATURES))
        self.all = torch.nn.Linear(FEATURES, width)  # of the frames' mean
        self.mel = torch.nn.Linear(BANDS * TOGETHER, width)
        self.drop = torch.nn.Dropout(dropout)
        self.before = torch.nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)
        self.blocks = torch.nn.ModuleList(AttentionBlock(width) for _ in range(blocks))
        self.after = torch.nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)
        self.out = torch.nn.Linear(width, len(SETS) * TOGETHER)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the log probabilities."""
        frames = features.shape[1]
        found = (features - self.mean) / self.std
        if missing := -frames % TOGETHER:
            found = torch.cat([found, found[:, -1:].expand(-1, missing, -1)], dim=1)
        found = found.unflatten(1, (-1, TOGETHER))
        mel = found[..., :BANDS].flatten(2)
        found = torch.relu(self.all(self.drop(found.mean(dim=2))) + self.mel(mel))
        found, _ = self.before(found)
        for block in self.blocks:
            found = block(found)
        again, _ = self.after(self.drop(found))
        scores = self.out(self.drop(found + again)).unflatten(2, (TOGETHER, -1)).flatten(1, 2)
        return torch.log_softmax(scores[:, :frames], dim=-1)


class AttentionBlock(torch.nn.Module):
    """A. Vaswani et al., "Attention is all you need" (NIPS 2017), normalised before: [batch, frames, width] to the same."""

    def __init__(self, width: int, *, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.norm = torch.nn.LayerNorm(width)
        self.inp = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.norm2 = torch.nn.LayerNorm(width)
        self.wide = torch.nn.Linear(width, 2 * width)
        self.narrow = torch.nn.Linear(2 * width, width)
        self.drop = torch.nn.Dropout(dropout)

    def forward(self, found: torch.Tensor) -> torch.Tensor:
        """Return what the frames are after they have looked at one another."""
        query, key, value = self.inp(self.norm(found)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        found = found + self.drop(self.out(seen.transpose(1, 2).flatten(2)))
        return found + self.drop(self.narrow(torch.relu(self.wide(self.norm2(found)))))


class Segmentation(torch.nn.Module):
    """float32 [batch, 1, samples] at 16 kHz to the probability that each local speaker speaks, [batch, frames of 20 ms, 3]."""

    def __init__(self, encoder: SpeakerEncoder, head: torch.nn.Module) -> None:
        super().__init__()
        self.features = FrameFeatures(encoder)
        self.head = head
        self.register_buffer("members", members())

    @staticmethod
    def load(path: Path, encoder: SpeakerEncoder) -> Segmentation:
        """Return the model with the weights of a file. Raises what torch raises where it is damaged."""
        head = SegmentationHead()
        weights: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        head.load_state_dict({name: value.float() for name, value in weights.items()})
        model = Segmentation(encoder, head)
        model.eval()
        return model

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        scores: torch.Tensor = self.head(self.features(waveforms[:, 0])).exp() @ self.members
        return scores


def members() -> torch.Tensor:
    """Return which speakers each of `SETS` holds: float32 [7, 3]."""
    found = torch.zeros(len(SETS), SPEAKERS)
    for row, speakers in enumerate(SETS):
        found[row, list(speakers)] = 1.0
    return found
