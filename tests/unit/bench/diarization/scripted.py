"""A diarize stage that says what its script says, and the shipped calls cut short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipeline import stages
from pipeline.core.contract import Draft, Lane, Snapshot, Step
from pipeline.core.contract import StageSpec as Spec
from schemas.records import CallSpeech, Started, Turn, Turns

LAG_SECONDS = 1  # that the watermark stays behind the end of a record


@dataclass(slots=True)
class ScriptedTurns:
    """For every piece of speech a turn of the piece's utterance, extended piece by piece; every other utterance is another speaker's."""

    started: list[Started] = field(default_factory=list)
    kinds = frozenset({"speech", "watermark"})
    controls = frozenset({"started"})

    def open(self, lane: Lane) -> tuple[int, int]:
        self.started.append(lane.started)
        return -1, 0  # utterance, its start

    def plan(self, state: tuple[int, int], record: CallSpeech) -> Step[tuple[int, int], Any]:
        if record.speech is None:
            return Step(state)
        utterance, start = state
        if record.speech.utterance != utterance:
            utterance, start = record.speech.utterance, record.start_sample
        rate = record.sample_rate_hz  # of positions; the audio is at 16 kHz
        end = record.start_sample + len(record.speech.audio) // 2 * rate // 16_000
        turn = Turn(speaker=f"s{utterance % 2 + 1}", start_sample=start, end_sample=end)
        body = {"turns": Turns(turns=(turn,), watermark_sample=max(0, end - LAG_SECONDS * rate))}
        return Step((utterance, start), (Draft(kind="turns", start_sample=record.start_sample, body=body),))

    def apply(self, state: tuple[int, int], work: Any, result: Any) -> Step[tuple[int, int], Any]:
        return Step(state)

    def snapshot(self, state: tuple[int, int]) -> Snapshot:
        return Snapshot(data=b"")

    def restore(self, lane: Lane, data: bytes) -> tuple[int, int]:
        return self.open(lane)


def script_diarize(monkeypatch: pytest.MonkeyPatch) -> ScriptedTurns:
    """Put the scripted stage in the place of diarize, behind the same `StageSpec`."""
    scripted = ScriptedTurns()
    real: Callable[[str], Spec[Any, Any, Any]] = stages.spec

    def spec(name: str) -> Spec[Any, Any, Any]:
        found = real(name)
        if name != "diarize":
            return found
        return replace(found, make_logic=lambda settings: scripted, make_engine=lambda settings: None)

    monkeypatch.setattr(stages, "spec", spec)
    return scripted
