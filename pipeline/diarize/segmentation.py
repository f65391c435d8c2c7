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
    """Frame features, float32 [batch, frames, 552], to log probabilities of `SETS`, [batch, frames, 7]."""

    def __init__(self, *, width: int = 128, hidden: int = 96, layers: int = 2, dropout: float = 0.15) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("std", torch.ones(FEATURES))
        self.inp = torch.nn.Linear(FEATURES, width)
        self.drop = torch.nn.Dropout(dropout)
        self.lstm = torch.nn.LSTM(width, hidden, layers, batch_first=True, bidirectional=True, dropout=dropout)
        self.hid = torch.nn.Linear(2 * hidden, 64)
        self.out = torch.nn.Linear(64, len(SETS))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the log probabilities."""
        found = torch.relu(self.inp(self.drop((features - self.mean) / self.std)))
        found, _ = self.lstm(found)
        return torch.log_softmax(self.out(torch.relu(self.hid(self.drop(found)))), dim=-1)


class Segmentation(torch.nn.Module):
    """float32 [batch, 1, samples] at 16 kHz to the probability that each local speaker speaks, [batch, frames of 20 ms, 3]."""

    def __init__(self, encoder: SpeakerEncoder, head: SegmentationHead) -> None:
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
