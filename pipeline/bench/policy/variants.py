"""The ways to stream that are compared: a policy with its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.recognition import PolicyName
from pipeline.runtime.settings import Settings

THRESHOLDS = (4, 10, 15, 25, 50)  # frames of 20 ms
AGREEMENTS = (2, 3)
STEPS = (0.4, 0.6, 0.9, 1.2)  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A policy and what is set of its parameters; None leaves one to the settings and the model's card."""

    policy: PolicyName
    step_seconds: float | None = None
    frame_threshold: int | None = None
    agreement: int | None = None

    def applied(self, settings: Settings) -> Settings:
        """Return the settings of a deployment that streams like this."""
        changes = {
            name: value
            for name in ("policy", "step_seconds", "frame_threshold", "agreement")
            if (value := getattr(self, name)) is not None
        }
        diarize = settings.diarize.model_copy(update={"engine": "channel"})  # words alone are measured
        return settings.model_copy(update={"asr": settings.asr.model_copy(update=changes), "diarize": diarize})


def swept(policies: Sequence[PolicyName]) -> tuple[Variant, ...]:
    """Return every combination of parameters of the sweep, policy by policy and step by step."""
    variants: list[Variant] = []
    for policy in policies:
        if policy == "alignatt":
            variants += (
                Variant(policy=policy, step_seconds=step, frame_threshold=threshold)
                for step in STEPS
                for threshold in THRESHOLDS
            )
        else:
            variants += (
                Variant(policy=policy, step_seconds=step, agreement=agreement)
                for step in STEPS
                for agreement in AGREEMENTS
            )
    return tuple(variants)
