"""What a flow gives up with a record that cannot be used, and where it says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.contract import Draft, Step
from pipeline.core.errors import PoisonError
from schemas.records import CallSpeech
from tests.unit.core.test_flow import Counting, ended, feed, flow, record, speech, started

ABOUT: dict[str, Any] = {"reason": "CondemnedError", "topic": "t", "partition": 3}


class Giving(Counting):
    """Asks the engine about settings and the end, too, and can do without."""

    def plan(self, state: tuple[int, int], record: Any) -> Step[tuple[int, int], int]:
        return super().plan(state, record) if record.kind in ("speech", "gap") else Step(state, work=1)

    def abandon(self, state: tuple[int, int], record: Any) -> Step[tuple[int, int], int]:
        if record.kind == "speech" and record.speech is None:
            raise PoisonError("no speech")
        return Step((0, state[1]), (Draft(kind=f"lost {record.kind}", start_sample=record.start_sample),))


def test_a_rejection_is_marked_where_the_record_belongs() -> None:
    target = flow(per=2)
    feed(target, started(), 0)
    feed(target, speech(0), 1)  # the lane cannot be resumed here
    value = record("speech", 0, 1, 800)
    with pytest.raises(PoisonError):
        feed(target, value, 2)
    effects = target.reject(2, reason="PoisonError", topic="t", partition=3, record=value)
    assert [(r.kind, r.channel, r.sequence, r.start_sample) for r in effects.outputs] == [("degraded", 0, 0, 800)]
    assert (effects.states, effects.released) == ([], [])  # its sequence is in no state yet
    assert target.reject(2, reason="PoisonError", topic="t", partition=3, record=value).outputs == []
    later = feed(target, speech(2), 3)
    assert [r.kind for r in later.outputs] == ["gap", "sum"]
    assert 2 in later.released
    assert [state.poison_offset for state in later.states if state.channel == 0] == [2]


@pytest.mark.parametrize(
    "value",
    [
        record("speech", 5, 0, 800),
        replace(record("speech", 0, 0, 800), sample_rate_hz=16_000),
        record("speech", 0, 0, -1),
        record("speech", 0, 0, 2**50),
    ],
)
def test_a_rejection_is_marked_at_the_control_lane_where_a_record_says_nothing_usable(value: CallSpeech) -> None:
    target = flow()
    feed(target, started(), 0)
    effects = target.reject(1, reason="PoisonError", topic="t", partition=3, record=value)
    assert [(r.kind, r.channel, r.start_sample) for r in effects.outputs] == [("degraded", -1, 0)]
    assert effects.released == [1]


def test_a_condemned_record_is_read_and_what_its_lane_holds_is_given_up() -> None:
    target = flow(logic=Giving(per=3))
    feed(target, started(), 0)
    feed(target, speech(0), 1)
    effects = target.abandon(speech(1), 2, **ABOUT)
    assert [(r.kind, r.channel, r.sequence) for r in effects.outputs] == [("degraded", 0, 0), ("lost speech", 0, 1)]
    assert effects.outputs[0].start_sample == 800
    assert effects.released == [1, 2]  # the lane can be resumed here
    assert [state.positions[0].next_sequence for state in effects.states] == [2]
    assert feed(target, speech(2), 3).outputs == []  # no hole
    again = target.abandon(speech(1), 4, **ABOUT)
    assert (again.outputs, again.released) == ([], [4])


def test_a_hole_before_a_condemned_record_is_given_up_too() -> None:
    target = flow(logic=Giving())
    feed(target, started(), 0)
    effects = target.abandon(speech(2), 1, **ABOUT)
    assert [r.kind for r in effects.outputs] == ["degraded", "lost gap", "lost speech"]


def test_a_condemned_control_record_takes_effect() -> None:
    target = flow(logic=Giving())
    effects = target.abandon(started(), 0, **ABOUT)
    assert [(r.kind, r.channel) for r in effects.outputs] == [("started", -1), ("degraded", -1)]
    effects = target.abandon(record("settings", -1, 1), 1, **ABOUT)
    assert [(r.kind, r.channel) for r in effects.outputs] == [
        ("lost settings", 0),
        ("lost settings", 1),
        ("degraded", -1),
        ("settings", -1),
    ]
    effects = target.abandon(ended(2), 2, **ABOUT)
    assert [(r.kind, r.channel) for r in effects.outputs] == [
        ("lost ended", 0),
        ("lost ended", 1),
        ("degraded", -1),
        ("ended", -1),
    ]
    assert target.is_ended
    assert target.abandon(ended(2), 3, **ABOUT).outputs == []


def test_a_stage_that_infers_nothing_gives_up_the_record_alone() -> None:
    target = flow()
    feed(target, started(), 0)
    with pytest.raises(PoisonError, match="without being processed"):
        target.abandon(speech(0), 1, **ABOUT)
    assert [r.kind for r in target.abandon(ended(), 2, **ABOUT).outputs] == ["last", "last", "degraded", "ended"]


def test_a_condemned_record_that_cannot_be_used_leaves_the_flow_as_it_was() -> None:
    target = flow(logic=Giving())
    feed(target, started(), 0)
    with pytest.raises(PoisonError):
        target.abandon(record("speech", 0, 0), 1, **ABOUT)
    assert [r.kind for r in feed(target, speech(0), 2).outputs] == ["sum"]
