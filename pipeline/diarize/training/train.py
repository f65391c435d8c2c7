"""Trains the segmentation head on examples: cross entropy of the sets of speakers, whichever local speaker is which.

Of the six ways to number three local speakers, the one that fits best counts (D. Yu, M. Kolbaek, Z.-H. Tan, J. Jensen, "Permutation
invariant training of deep models for speaker-independent multi-talker speech separation", ICASSP 2017).
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.errors import FailedError, NotReadyError
from pipeline.diarize.segmentation import FEATURES, SETS, SPEAKERS, SegmentationHead
from pipeline.diarize.training.evaluate import errors_of
from pipeline.diarize.training.examples import Shard
from pipeline.diarize.training.plan import Plan

BATCH = 32
WEIGHT_DECAY = 1e-2
MAX_GRADIENT_NORM = 1.0
SCALED_EXAMPLES, LEAST_DEVIATION = 300, 1e-3  # examples that mean and deviation of the features are taken from
EARLY_REPORTS, REPORT_STEPS = (20, 50), 100
VALIDATION_EXAMPLES = 200  # on the way
AVERAGING = 0.998  # the weights that are kept are a moving average of those of the last 500 steps or so
SMOOTHING = 0.98  # of the loss that is reported
WEIGHTS, TRAINING = "segmentation.pt", "training.json"


def set_numbers(active: Tensor) -> Tensor:
    """Return which of `SETS` speaks: bool [..., 3] to int64 [...]. Of three at once, the first two."""
    numbers = torch.zeros(2**SPEAKERS, dtype=torch.long)
    for code in range(len(numbers)):
        speakers = tuple(one for one in range(SPEAKERS) if code >> one & 1)
        numbers[code] = SETS.index(speakers[:2])
    return numbers[(active.long() << torch.arange(SPEAKERS)).sum(dim=-1)]


def permutation_invariant_loss(scores: Tensor, active: Tensor) -> Tensor:
    """Return the mean loss of windows: log probabilities [batch, frames, 7] and bool [batch, frames, 3]."""
    losses = [
        F.nll_loss(scores.transpose(1, 2), set_numbers(active[:, :, list(order)]), reduction="none").mean(dim=1)
        for order in permutations(range(SPEAKERS))
    ]
    return torch.stack(losses, dim=1).min(dim=1).values.mean()


class Trainer:
    """A head in training, with its optimizer, and ``averaged``, the moving average of it. ``shards`` tell the scale of the features."""

    def __init__(self, shards: Sequence[Shard], seed: int) -> None:
        torch.manual_seed(seed)
        self.head = SegmentationHead()
        features = np.asarray(shards[0].features[:SCALED_EXAMPLES], dtype=np.float32).reshape(-1, FEATURES)
        self.head.mean.copy_(torch.from_numpy(features.mean(axis=0)))
        self.head.std.copy_(torch.from_numpy(features.std(axis=0) + LEAST_DEVIATION))
        self.averaged = copy.deepcopy(self.head)
        self._steps = 0
        self._optimizer = torch.optim.AdamW(self.head.parameters(), lr=0.0, weight_decay=WEIGHT_DECAY)

    def step(self, features: Tensor, active: Tensor, rate: float) -> float:
        """Take one step; return the loss before it. Raises FailedError when it diverged."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.head.train()
        loss = permutation_invariant_loss(self.head(features), active)
        value = float(loss.item())
        if not math.isfinite(value):
            raise FailedError("the loss is not finite: start again with a lower learning rate")
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.head.parameters(), MAX_GRADIENT_NORM)
        self._optimizer.step()
        self._steps += 1
        share = min(AVERAGING, self._steps / (9 + self._steps))  # the first ones count for less and less
        with torch.no_grad():
            for average, weights in zip(self.averaged.parameters(), self.head.parameters(), strict=True):
                average.lerp_(weights, 1 - share)
        return value


def batches(shards: Sequence[Shard], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of all examples in random order, again and again. Raises NotReadyError when there is not one whole batch."""
    places = [(shard, number) for shard, one in enumerate(shards) for number in range(len(one.active))]
    if len(places) < BATCH:
        raise NotReadyError(f"{len(places)} examples are too few: a step takes {BATCH}")
    source = np.random.default_rng(seed)
    while True:
        order = source.permutation(len(places))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            chosen = [places[at] for at in order[first : first + BATCH]]
            features = np.stack([shards[shard].features[number] for shard, number in chosen]).astype(np.float32)
            active = np.stack([shards[shard].active[number] for shard, number in chosen])
            yield torch.from_numpy(features), torch.from_numpy(active)


def train(shards: Sequence[Shard], validation: Sequence[Shard], folder: Path, plan: Plan) -> Iterator[str]:
    """Train as planned, and write ``segmentation.pt`` (float32) and ``training.json``; yields lines of progress.

    Raises FailedError when training diverges.
    """
    torch.set_num_threads(plan.threads)
    trainer = Trainer(shards, plan.seed)
    checked = first_of(validation, VALIDATION_EXAMPLES)
    examples = sum(len(one.active) for one in shards)
    yield f"{examples} examples, {sum(weights.numel() for weights in trainer.head.parameters())} weights"
    step, elapsed, smoothed = 0, 0.0, math.nan
    started = time.monotonic()
    for features, active in batches(shards, plan.seed):
        if (progress := plan.progress(step, elapsed)) >= 1:
            break
        loss = trainer.step(features, active, plan.rate(step, progress))
        smoothed = loss if math.isnan(smoothed) else SMOOTHING * smoothed + (1 - SMOOTHING) * loss
        step += 1
        elapsed = time.monotonic() - started
        if step % REPORT_STEPS == 0 or step in EARLY_REPORTS:
            done = f"step {step}, {elapsed / 60:.1f} min, {plan.progress(step, elapsed):.0%}"
            yield f"{done}: loss {smoothed:.3f}, validation {errors_of(trainer.averaged, checked)}"
    errors = errors_of(trainer.averaged, validation)
    save_weights(folder / WEIGHTS, trainer.averaged.state_dict())
    document = {
        "seed": plan.seed,
        "steps": step,
        "batch": BATCH,
        "examples": examples,
        "learning_rate": plan.learning_rate,
        "is_repeatable": plan.steps is not None and plan.threads == 1,
    }
    (folder / TRAINING).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    yield f"step {step}, {elapsed / 60:.1f} min, done: validation {errors}; {folder / WEIGHTS}"


def first_of(shards: Sequence[Shard], count: int) -> list[Shard]:
    """Return the first ``count`` examples, or all."""
    found, left = [], count
    for one in shards:
        if left > 0:
            found.append(Shard(features=one.features[:left], active=one.active[:left]))
            left -= len(found[-1].active)
    return found


def save_weights(path: Path, weights: dict[str, Any]) -> None:
    """Write weights, all or nothing; the same weights make the same bytes, whatever the path."""
    content = io.BytesIO()
    torch.save(dict(weights), content)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content.getvalue())
    os.replace(partial, path)
