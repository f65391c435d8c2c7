"""Nothing grows with the length of a call: states, records held back, audio in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest

from schemas.records import CallAnnotation, Word, Words
from tests.fakes import CODEC, Call, run_chain, said, stages, step
from tests.transcripts import words_of
from tests.turns import annotation, diarized, in_time, who

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
    waited = {"mixed": 1_500, "agent": 64}[role]  # words wait 10 minutes, and 10 more for a correction
    assert max(found.most_held) <= waited
    assert found.largest_state <= 4_096
    assert found.held_at_end <= (
        waited if role == "mixed" else 1
    )  # the end, which waits for diarize's, and what is owed
    assert words_of(found.outputs, 0) == [word.text for word in LONG.script[0]]


def dense(late: float, *, minutes: int = MINUTES) -> list[Any]:
    """Return what assemble reads of a call in which nobody ever pauses, and diarize is ``late`` by so many seconds."""
    seconds = minutes * 60
    call = replace(LONG, script={0: ()}, seconds=float(seconds))
    spans = [(f"speaker_{1 + at % 2}", at * 3.0, at * 3.0 + 3.0) for at in range(seconds // 3)]
    annotations = run_chain(replace(call, seconds=2.0)).annotations
    control = [one for one in annotations if one.channel < 0]
    ends = [replace(one, start_sample=seconds * 8_000) for one in control if one.kind == "ended"]
    asr = [spoken(at, utterance=at // 4, is_last=at % 4 == 3) for at in range(seconds)]
    turns = diarized(call, spans, late=min(late, float(seconds)), watermark_late=late)
    return [*(one for one in control if one.kind == "started"), *in_time(asr, turns), *ends]


def spoken(at: int, *, utterance: int, is_last: bool) -> CallAnnotation:
    """Return three words of one second."""
    words = tuple(
        Word(
            text=f"w{at}{mark}",
            start_sample=at * 8_000 + i * 2_600,
            end_sample=at * 8_000 + (i + 1) * 2_600,
            probability=1,
        )
        for i, mark in enumerate(("a", "b", "c."))
    )
    body = Words(
        utterance=utterance,
        start_sample=utterance * 32_000,
        is_last=is_last,
        words=words,
        watermark_sample=(at + 1) * 8_000,
        model="m",
        policy="p",
    )
    return replace(annotation("words", at, at * 8_000, 8_000, words=body), stage="asr")


@pytest.mark.parametrize("late", [2.0, 9.0, 45.0, 100_000.0])
def test_a_call_without_a_pause_stays_bounded_however_late_its_speakers_are(late: float) -> None:
    log = dense(late)
    found = measure("assemble", log)
    assert found.largest_state <= 4_096
    assert max(found.most_held) <= (250 + 4 * late if late < 1_000 else 2_600)
    assert found.held_at_end == 0
    words = [word for one in log if one.words is not None for word in one.words.words]
    assert [text for _, text in who(found.outputs)] == [word.text for word in words]
    named = [speaker for speaker, _ in who(found.outputs)]
    assert named == [f"speaker_{1 + word.start_sample // 24_000 % 2}" for word in words] or late > 1_000
