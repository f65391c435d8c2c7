"""Small models with random weights, written as pyannote.audio's checkpoints. Run as a program: FOLDER, then what to make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_segmentation(path: Path) -> None:
    """Write a PyanNet for 5 s, three local speakers, two at a time, as pyannote/segmentation-3.0 is."""
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(0)
    model = PyanNet(
        sincnet={"stride": 10}, lstm={"hidden_size": 8, "num_layers": 1}, linear={"hidden_size": 8, "num_layers": 1}
    )
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=5.0,
        classes=["a", "b", "c"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    _write(model, path)


def write_embedding(path: Path, dimensions: int = 64) -> None:
    """Write an x-vector network."""
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import XVectorSincNet

    torch.manual_seed(0)
    model = XVectorSincNet(dimension=dimensions)
    model.specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, classes=["x", "y"]
    )
    _write(model, path)


def _write(model: Any, path: Path) -> None:
    import lightning
    import torch

    model.build()
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
    }
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
