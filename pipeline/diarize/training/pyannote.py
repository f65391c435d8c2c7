"""The segmentation model as a checkpoint of pyannote.audio, for programs that load models through that library.

    model = pyannote.audio.Model.from_pretrained("segmentation.bin")

callscribe must be installed where it is loaded: the checkpoint names the class below.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from pipeline.diarize.encoder import HOP, RATE, SpeakerEncoder
from pipeline.diarize.segmentation import FRAME_HOPS, SPEAKERS, Segmentation, SegmentationHead
from pipeline.diarize.training.acoustics import WINDOW_SECONDS

with warnings.catch_warnings(action="ignore"):  # of the packages' own imports
    from pyannote.audio.core.model import Model
    from pyannote.audio.core.task import Problem, Resolution, Specifications

FRAME = HOP * FRAME_HOPS  # samples
MAX_AT_ONCE = 2


class ShippedSegmentation(Model):
    """float32 [batch, 1, samples] at 16 kHz to log probabilities of the sets of speakers, [batch, frames of 20 ms, 7].

    The sets are in the order of `pyannote.audio.utils.powerset.Powerset`, whose ``to_multilabel`` tells who speaks.
    """

    def __init__(self, sample_rate: int = RATE, num_channels: int = 1, task: Any = None) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        self.save_hyperparameters("sample_rate", "num_channels")
        self.segmentation = Segmentation(SpeakerEncoder(), SegmentationHead())

    @property
    def dimension(self) -> int:
        """Return how many sets there are."""
        return int(self.specifications.num_powerset_classes)

    def num_frames(self, num_samples: int) -> int:
        """Return how many frames a waveform gives."""
        return num_samples // FRAME

    def receptive_field_size(self, num_frames: int = 1) -> int:
        """Return how many samples frames cover; what the recurrent layers remember is left out."""
        return num_frames * FRAME

    def receptive_field_center(self, frame: int = 0) -> int:
        """Return the sample in the middle of a frame."""
        return frame * FRAME + FRAME // 2

    def build(self) -> None:
        """Do nothing: the layers do not depend on the specifications."""

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Return the log probabilities."""
        scores: torch.Tensor = self.segmentation.head(self.segmentation.features(waveforms[:, 0]))
        return scores


def specifications() -> Specifications:
    """Return what pyannote.audio has to know, as of pyannote/segmentation-3.0."""
    return Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=WINDOW_SECONDS,
        classes=[f"speaker#{number}" for number in range(1, SPEAKERS + 1)],
        powerset_max_classes=MAX_AT_ONCE,
        permutation_invariant=True,
    )


def export(head: SegmentationHead, encoder: Path, path: Path) -> None:
    """Write a checkpoint, float16."""
    import lightning

    model = ShippedSegmentation()
    model.specifications = specifications()
    model.segmentation = Segmentation(SpeakerEncoder.load(encoder), head)
    checkpoint: dict[str, Any] = {
        "state_dict": {name: value.half() for name, value in model.state_dict().items()},
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
    }
    model.on_save_checkpoint(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, path)
