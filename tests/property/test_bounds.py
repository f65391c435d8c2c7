"""Nothing grows with the length of a call: states, records held back, audio in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest

from tests.fakes import CODEC, Call, said, stages, step
from tests.transcripts import words_of

MINUTES = 30
TURNS = range(5, MINUTES * 60 - 10, 20)
LONG = Call(
    script={0: tuple(word for at in TURNS for word in said("six words in every one turn.", at=at))},
    seconds=MINUTES * 60.0,
    roles=("mixed",),
)


@dataclass(slots=True)
class Measured:
    """One stage's way through the long call."""

    outputs: list[Any] = field(default_factory=list)
    largest_state: int = 0
    longest_audio: int = 0
    most_held: list[int] = field(default_factory=lambda: [0, 0])  # in each half of the call
    held_at_end: int = 0


def measure(name: str, log: Sequence[Any]) -> Measured:
    stage, found, held = stages(LONG)[name], Measured(), set[int]()
    flow = stage.flow()
    for offset, record in enumerate(log):
        effects = step(flow, stage, record, offset)
        found.outputs += effects.outputs
        held.add(offset)
        held -= set(effects.released)
        half = offset * 2 // len(log)
        found.most_held[half] = max(found.most_held[half], len(held))
        sizes = [len(CODEC.encode(state)) for state in effects.states if state.channel >= 0]
        found.largest_state = max([found.largest_state, *sizes])
        audio = [len(getattr(lane.state, "audio", ())) for lane in flow._lanes.values()]
        found.longest_audio = max([found.longest_audio, *audio])
    found.held_at_end = len(held)
    return found


@cache
def measured() -> dict[str, Measured]:
    vad = measure("vad", LONG.records(1.0))
    diarize, asr = measure("diarize", vad.outputs), measure("asr", vad.outputs)
    assemble = measure("assemble", [*diarize.outputs, *asr.outputs])
    return {"vad": vad, "asr": asr, "diarize": diarize, "assemble": assemble}


def test_a_long_call_is_transcribed_to_its_end() -> None:
    assert words_of(measured()["assemble"].outputs, 0) == [word.text for word in LONG.script[0]]


@pytest.mark.parametrize("name", ["vad", "asr", "diarize", "assemble"])
def test_states_and_held_records_stay_bounded(name: str) -> None:
    found = measured()[name]
    assert found.largest_state <= 4_096
    assert found.longest_audio <= 12 * 16_000
    assert found.most_held[1] <= max(found.most_held[0], 2)
    assert found.most_held[0] <= 64
    assert found.held_at_end == 0


@pytest.mark.parametrize("role", ["mixed", "agent"])
def test_without_diarize_no_more_waits_than_it_may_be_behind(role: str) -> None:
    log = []
    for record in measured()["asr"].outputs:
        if record.started is not None:
            channels = tuple(replace(channel, role=role) for channel in record.started.channels)
            record = replace(record, started=replace(record.started, channels=channels))
        log.append(record)
    found = measure("assemble", log)
    assert found.most_held[1] <= 64 < found.most_held[0] or role == "agent"
    assert found.most_held[0] <= {"mixed": 1_000, "agent": 64}[role]
    assert found.held_at_end == 1  # the end, which waits for diarize's
    assert words_of(found.outputs, 0) == [word.text for word in LONG.script[0]]
