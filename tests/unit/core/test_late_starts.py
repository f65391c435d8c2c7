"""A stage was away since before the call began, and comes back behind its start."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.core.errors import PoisonError
from schemas.records import CallAnnotation, CallSegment, CallSpeech, Ended, Hold
from tests.fakes import EPOCH_MS, passed
from tests.unit.core.test_flow import STARTED, ended, feed, flow, record, speech, started


def test_a_start_that_was_deleted_is_made_up() -> None:
    """A stage was away since before the call: as if the start had come, and what is missing behind it is a gap."""
    target = flow(read_from=7, first_offset=7)
    value = speech(3)
    assert target.lacks_start(value)
    assert not target.lacks_start(started())
    with pytest.raises(PoisonError, match="retention may have deleted its start"):
        feed(target, value, 7)
    effects = feed(target, value, 7, STARTED)
    start, gap, heard = effects.outputs
    assert (start.kind, start.channel, start.sequence, start.started) == ("started", -1, 0, STARTED)
    assert start.capture_time_ms == EPOCH_MS
    assert (gap.kind, gap.start_sample, gap.gap.end_sample, gap.gap.reason) == ("gap", 0, 2_400, "deleted_records")
    assert (gap.sequence, heard.sequence) == (
        1_000_000,
        1_000_001,
    )  # what it may have written before it died is another's
    assert effects.released == [7]
    assert not target.lacks_start(value)
    hold = feed(target, record("hold", -1, 4, 4_000, hold=Hold(active=True)), 8).outputs
    assert [(one.kind, one.sequence) for one in hold] == [("hold", 1_000_001)]
    last = feed(target, ended(5), 9)
    assert [one.kind for one in last.outputs] == ["last", "last", "ended"]
    assert target.is_ended
    assert not target.lacks_start(value)


def test_what_comes_behind_a_restart_is_as_if_there_had_been_none() -> None:
    target = flow(read_from=7, first_offset=7)
    states = {state.channel: state for state in feed(target, speech(3), 7, STARTED).states}
    again = flow(read_from=8, first_offset=7, restored={channel: passed(state) for channel, state in states.items()})
    for one in (target, again):
        made = feed(one, speech(5, channel=1), 8).outputs
        assert [(r.kind, r.sequence) for r in made] == [("gap", 1_000_000), ("sum", 1_000_001)]
        assert made[0].gap.reason == "deleted_records"


def test_a_made_up_start_is_said_though_the_record_behind_it_is_poison() -> None:
    target = flow(read_from=7, first_offset=7)
    with pytest.raises(PoisonError):
        feed(target, record("speech", 0, 3, 2_400), 7, STARTED)
    effects = target.reject(7, reason="PoisonError", topic="t", partition=0)
    assert [(one.kind, one.sequence) for one in effects.outputs] == [("started", 0), ("degraded", 1_000_001)]
    assert [one.kind for one in feed(target, speech(4), 8).outputs] == ["gap", "sum"]


def test_a_call_of_which_the_end_is_left_is_gaps_to_its_end() -> None:
    target = flow(read_from=7, first_offset=7)
    value = replace(ended(9, 80_000), ended=Ended(reason="completed", end_samples={"0": 80_000, "1": 40_000}))
    made = feed(target, value, 7, STARTED).outputs
    gaps = [(one.channel, one.start_sample, one.gap.end_sample, one.gap.reason) for one in made if one.gap]
    assert gaps == [(0, 0, 80_000, "deleted_records"), (1, 0, 40_000, "deleted_records")]
    assert (made[0].kind, made[-1].kind) == ("started", "ended")


def test_of_two_writers_each_may_have_lost_its_start() -> None:
    """The first one's start says how the call is passed on; what the second lacks changes nothing of that."""
    target = flow(writers=("asr", "diarize"), writes=CallSegment, read_from=7, first_offset=7)

    def said_by(stage: str, value: CallSpeech) -> CallAnnotation:
        words = (
            "call_id",
            "kind",
            "channel",
            "sequence",
            "start_sample",
            "sample_rate_hz",
            "capture_time_ms",
            "started",
        )
        return CallAnnotation(stage=stage, **{name: getattr(value, name) for name in words})

    assert [one.kind for one in feed(target, said_by("diarize", record("turns", 0, 2, 800)), 7, STARTED).outputs] == [
        "gap"
    ]
    made = feed(target, said_by("asr", record("words", 0, 4, 1_600)), 8).outputs
    assert [(one.kind, one.start_sample, one.sequence) for one in made] == [
        ("started", 0, 0),
        ("gap", 0, 2_000_001),
        ("words", 1_600, 2_000_002),
    ]
    assert feed(target, said_by("asr", started()), 9).outputs == []  # written again by asr


def test_a_mark_of_the_end_and_an_intact_log_open_nothing() -> None:
    whole = flow()
    for offset, value in enumerate([started(), speech(0), ended()]):
        states = {state.channel: state for state in feed(whole, value, offset).states}
    mark = flow(read_from=7, first_offset=7, restored={-1: replace(states[-1], started=None)})
    assert not mark.lacks_start(speech(0))
    assert feed(mark, speech(0), 7, STARTED).outputs == []
    assert not flow().lacks_start(speech(0))
