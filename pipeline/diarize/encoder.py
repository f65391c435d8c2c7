"""The shipped speaker encoder: the d-vector network of resemblyzer, as an embedding model of diart.

L. Wan, Q. Wang, A. Papir, I. Lopez Moreno, "Generalized end-to-end loss for speaker verification" (ICASSP 2018): three LSTM layers over
40 mel bands, trained on windows of 1.6 s. Longer speech is embedded in such windows, half overlapping, and the mean is taken. The
weights are those of resemblyzer 0.1.4 (see ``model/MODEL_CARD.md``); the mel spectrogram is torchaudio's, with librosa's parameters.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torchaudio

RATE = 16_000
HOP = 160  # samples of a mel frame
BANDS = 40
DIMENSIONS = 256
PARTIAL = 160  # mel frames that the network was trained on
PARTIAL_STEP = 80
SHORTEST = 25  # mel frames: less tells no voice
QUIET_DBFS = -30.0  # quieter speech is raised to this


class SpeakerEncoder(torch.nn.Module):
    """Speech to unit vectors.

    ``forward(waveforms, weights)``: float32 [batch, 1, samples] at 16 kHz, and [batch, frames] over the same time or None; frames of a
    weight above one half are heard. Returns float32 [batch, 256], not a number where less than 0.25 s is heard.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(BANDS, DIMENSIONS, num_layers=3, batch_first=True)
        self.linear = torch.nn.Linear(DIMENSIONS, DIMENSIONS)
        self.mel = torchaudio.transforms.MelSpectrogram(
            RATE, n_fft=400, hop_length=HOP, n_mels=BANDS, norm="slaney", mel_scale="slaney", pad_mode="constant"
        )

    @staticmethod
    def load(path: Path) -> SpeakerEncoder:
        """Return the encoder with the weights of a file. Raises what torch raises where it is damaged."""
        encoder = SpeakerEncoder()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        found = encoder.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
        missing = [name for name in found.missing_keys if not name.startswith("mel.")]
        if missing or found.unexpected_keys:
            raise ValueError(f"{path} lacks {missing}, has {found.unexpected_keys}")
        encoder.eval()
        return encoder

    def forward(self, waveforms: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Return the embeddings."""
        power = self.mel(waveforms[:, 0])[:, :, : waveforms.shape[-1] // HOP]  # [batch, bands, frames]
        parts: list[torch.Tensor] = []
        owners: list[int] = []
        for item in range(len(power)):
            heard = power[item] if weights is None else power[item][:, _heard(weights[item], power.shape[-1])]
            if heard.shape[1] < SHORTEST:
                continue
            heard = heard * _gain(waveforms[item, 0], None if weights is None else weights[item])
            for start in _starts(heard.shape[1]):
                parts.append(heard[:, start : start + PARTIAL].T)
                owners.append(item)
        embeddings = torch.full((len(power), DIMENSIONS), math.nan, device=power.device)
        if not parts:
            return embeddings
        voices = self._embed(parts)
        for item in dict.fromkeys(owners):
            own = voices[[at for at, owner in enumerate(owners) if owner == item]]
            embeddings[item] = torch.nn.functional.normalize(own.mean(dim=0), dim=0)
        return embeddings

    def _embed(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Return one unit vector for each part, [frames, bands]; those of one length together."""
        voices = torch.zeros(len(parts), DIMENSIONS, device=parts[0].device)
        for length in sorted({len(part) for part in parts}):
            members = [at for at, part in enumerate(parts) if len(part) == length]
            _, (hidden, _) = self.lstm(torch.stack([parts[at] for at in members]))
            voices[members] = torch.nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)
        return voices


def _heard(weights: torch.Tensor, frames: int) -> torch.Tensor:
    """Return which mel frames are heard, by the nearest of the weights."""
    at = ((torch.arange(frames, device=weights.device) + 0.5) * len(weights) / frames).long()
    return weights[at.clamp(max=len(weights) - 1)] > 0.5


def _gain(samples: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Return what the power of the heard samples is multiplied by, so that it is not below `QUIET_DBFS`."""
    heard = samples if weights is None else samples[_heard(weights, len(samples))]
    power = heard.square().mean().clamp(min=1e-12)
    return torch.clamp(10 ** (QUIET_DBFS / 10) / power, min=1.0)


def _starts(frames: int) -> list[int]:
    """Return where windows of `PARTIAL` frames begin that cover all frames evenly."""
    if frames <= PARTIAL:
        return [0]
    steps = math.ceil((frames - PARTIAL) / PARTIAL_STEP)
    return [round(step * (frames - PARTIAL) / steps) for step in range(steps + 1)]
