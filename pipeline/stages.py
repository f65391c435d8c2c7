"""The stages, in the order of the flow. Everything that runs, deploys or documents stages is checked against this list."""

from __future__ import annotations

from importlib import import_module

from pipeline.core.contract import StageSpec
from pipeline.core.errors import UsageError

STREAM_STAGES = ("vad", "asr", "diarize", "assemble")  # Faust workers
STAGES = (*STREAM_STAGES, "sink")


def spec(name: str) -> StageSpec:  # type: ignore[type-arg]
    """Return the specification of a stream stage. Raises UsageError for an unknown one."""
    if name not in STREAM_STAGES:
        raise UsageError(f"no stream stage {name!r}; there are {', '.join(STREAM_STAGES)}")
    result: StageSpec = import_module(f"pipeline.{name}.stage").SPEC  # type: ignore[type-arg]
    return result
