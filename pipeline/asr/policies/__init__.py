"""Commit policies: when is a hypothesis stable enough to publish."""

from __future__ import annotations

from pipeline.asr.policies.alignatt import AlignAtt
from pipeline.asr.policies.base import CommitPolicy
from pipeline.asr.policies.local_agreement import LocalAgreement
from pipeline.asr.profiles import ModelProfile


def policy_of(profile: ModelProfile, name: str | None = None) -> CommitPolicy | None:
    """Return the policy ``name`` (None: the model's own) with the model's parameters; None when there is no such policy."""
    match name or profile.policy:
        case "alignatt":
            return AlignAtt(frame_threshold=profile.frame_threshold)
        case "local_agreement":
            return LocalAgreement(agreement=profile.agreement)
        case _:
            return None
