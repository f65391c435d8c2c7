"""How long to train, and how fast at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.core.errors import UsageError

STEPS = 4_000  # of 32 examples: 16 000 of them eight times, 20 minutes on one core
LEARNING_RATE = 2e-3  # the highest
WARM_UP_STEPS = 50
LOWEST_RATE_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to train. Exactly one of ``steps`` and ``minutes`` is given.

    With ``steps`` and one thread the same plan gives the same weights.
    """

    seed: int
    steps: int | None = None
    minutes: float | None = None
    threads: int = 1
    learning_rate: float = LEARNING_RATE

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError("training takes either a number of steps or a number of minutes")
        if not (self.minutes or self.steps or 0) > 0 or not self.learning_rate > 0:
            raise UsageError("steps, minutes and learning rate must be above 0")

    def progress(self, step: int, elapsed_seconds: float) -> float:
        """Return how much of the training is done, 0 to 1."""
        if self.minutes is not None:
            return min(1.0, elapsed_seconds / 60 / self.minutes)
        return min(1.0, step / self.steps) if self.steps else 1.0

    def rate(self, step: int, progress: float) -> float:
        """Return the learning rate of a step: rises over the first steps, then falls as a cosine does."""
        warmth = min(1.0, (step + 1) / WARM_UP_STEPS)
        return self.learning_rate * warmth * max(LOWEST_RATE_SHARE, 0.5 * (1 + math.cos(math.pi * progress)))
