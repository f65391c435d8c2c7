"""The seam between the recogniser and when its words are published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipeline.asr.hypothesis import Hypothesis


@dataclass(frozen=True, slots=True)
class Memory:
    """What a policy keeps between two passes over one utterance: the uncommitted words of earlier passes as token
    sequences, the newest pass last.
    """

    hypotheses: tuple[tuple[tuple[int, ...], ...], ...] = ()


class CommitPolicy(Protocol):
    """Decides how many leading words of a hypothesis are final."""

    @property
    def name(self) -> str:
        """Name in records and settings."""

    def commit(self, hypothesis: Hypothesis, *, frames: int, is_final: bool, memory: Memory) -> tuple[int, Memory]:
        """Return how many leading words are committed, and the memory for the next pass.

        ``frames`` is the length of the decoded audio in encoder frames.
        """
