"""Who feeds a call: epochs, silent feeds, and feeds that come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.effects import Effects
from pipeline.core.errors import PoisonError, StaleStateError
from pipeline.core.flow import CallFlow
from pipeline.vad.stage import SPEC
from schemas.records import CallAudio, Dtmf, Interrupted, LaneState
from tests.fakes import Call, inferred, said, stages, step
from tests.property.durable import BOUNDED, calls

CALL = Call(script={0: said("one two.", at=0.4) + said("three.", at=2.0), 1: ()}, seconds=4.0)


def flow_of(call: Call, restored: dict[int, LaneState] | None = None, **places: int) -> CallFlow[Any, Any, Any]:
    stage = stages(call)["vad"]
    return CallFlow(
        call_id=call.call_id,
        logic=stage.logic,
        writes=stage.writes,
        writers=stage.writers,
        stage="vad",
        clocks=SPEC.clocks,
        restored=restored,
        **places,
    )


def fed(flow: CallFlow[Any, Any, Any], call: Call, records: list[CallAudio], first: int = 0) -> list[Any]:
    return [step(flow, stages(call)["vad"], record, offset) for offset, record in enumerate(records, start=first)]


def epoch(records: list[CallAudio], number: int) -> list[CallAudio]:
    return [replace(record, feed_epoch=number) for record in records]


def test_what_a_superseded_feed_sends_is_dropped() -> None:
    records = CALL.records()
    flow = flow_of(CALL)
    fed(flow, CALL, epoch(records[:10], 1))
    fed(flow, CALL, epoch(records[:2], 2), first=10)  # another feed begins the call anew
    late = fed(flow, CALL, epoch(records[10:14], 1), first=12)
    assert all(effects.outputs == [] for effects in late)
    assert [effects.released for effects in late] == [[12], [13], [14], [15]]
    fed(flow, CALL, epoch(records[2:], 2), first=16)
    assert flow.is_ended


def test_a_restart_reads_what_the_earlier_feed_had_sent_before() -> None:
    """The control lane remembers the new feed, and a lane with an open utterance needs records of the old one again."""
    records = CALL.records()
    log = [*epoch(records[:8], 1), *epoch(records[:1], 2), *epoch(records[8:], 2)]
    plain, states = flow_of(CALL), dict[int, LaneState]()
    expected = [output for effects in fed(plain, CALL, log) for output in effects.outputs]
    for at in range(1, len(log)):
        flow, made, states = flow_of(CALL), list[Any](), {}
        for effects in fed(flow, CALL, log[:at]):
            made += effects.outputs
            states |= {state.channel: state for state in effects.states}
        again = flow_of(CALL, states)
        for effects in fed(again, CALL, log):
            made += effects.outputs
        assert {(o.channel, o.sequence): o for o in made} == {(o.channel, o.sequence): o for o in expected}


def test_a_silent_feed_is_closed_where_the_record_is_read() -> None:
    records = epoch(CALL.records()[:12], 1)
    flow = flow_of(CALL)
    fed(flow, CALL, records)
    decision = flow.idle_record(is_paused_too=False)
    assert decision is not None
    assert (decision.kind, decision.stage, decision.feed_epoch) == ("interrupted", "vad", 1)
    (effects,) = fed(flow, CALL, [decision], first=12)
    assert [output.kind for output in effects.outputs if output.channel == -1] == ["interrupted"]
    assert effects.standing is not None
    state, place = effects.standing
    assert state == "interrupted"
    audio = {record.channel: record for record in records if record.audio is not None}
    assert place.next_sequence == {channel: record.sequence + 1 for channel, record in audio.items()} | {-1: 1}
    ends = {c: r.start_sample + len(r.audio.data) // 2 for c, r in audio.items() if r.audio is not None}
    assert place.end_samples == ends
    assert flow.is_quiet
    assert flow.idle_record(is_paused_too=True) is None
    (again,) = fed(flow, CALL, [decision], first=13)  # written twice: by a worker that died, and by the next one
    assert (again.outputs, again.standing) == ([], None)


def test_a_decision_is_void_for_lanes_that_have_heard_more() -> None:
    records = epoch(CALL.records(), 1)
    flow = flow_of(CALL)
    fed(flow, CALL, records[:12])
    decision = flow.idle_record(is_paused_too=False)
    assert decision is not None
    behind = fed(flow, CALL, [*records[12:14], decision], first=12)[-1]
    assert all(output.channel == -1 for output in behind.outputs)
    (effects,) = fed(flow, CALL, [records[14]], first=15)  # and the feed goes on
    assert [output.kind for output in effects.outputs if output.channel == -1] == ["resumed"]
    assert effects.standing is not None
    assert effects.standing[0] == "live"
    fed(flow, CALL, records[15:], first=16)
    assert flow.is_ended


def test_a_lane_that_had_heard_more_than_the_decision_is_closed_by_the_next_one() -> None:
    """A record that was on its way came before the decision, and nothing after it: what the lane has open must not wait for ever."""
    records = epoch(CALL.records(), 1)
    flow = flow_of(CALL)
    fed(flow, CALL, records[:12])
    decision = flow.idle_record(is_paused_too=False)
    assert decision is not None
    behind = fed(flow, CALL, [*records[12:14], decision], first=12)
    assert not flow.is_quiet  # somebody speaks
    again = flow.idle_record(is_paused_too=False)
    assert again is not None
    assert again.sequence == decision.sequence + 1
    (effects,) = fed(flow, CALL, [again], first=15)
    assert any(output.channel != -1 for output in effects.outputs)
    assert flow.is_quiet
    assert flow.idle_record(is_paused_too=True) is None
    assert all(effects.is_heard for effects in behind)


def test_a_feed_that_is_gone_when_a_worker_comes_back_is_closed_once() -> None:
    """What a lane would rebuild may have been deleted: nothing of it may be waited for."""
    records = epoch(CALL.records(), 1)
    for at in range(1, len(records)):
        states: dict[int, LaneState] = {}
        for effects in fed(flow_of(CALL), CALL, records[:at]):
            states |= {state.channel: state for state in effects.states}
        flow = flow_of(CALL, states, read_from=at, first_offset=at)
        decision = flow.idle_record(is_paused_too=False)
        assert decision is not None
        (effects,) = fed(flow, CALL, [decision], first=at)
        assert effects.released == [at]
        assert flow.is_quiet
        assert flow.idle_record(is_paused_too=True) is None


def test_who_takes_a_call_whose_end_is_on_its_way_hears_that_it_is_complete() -> None:
    records = CALL.records()
    flow = flow_of(CALL)
    fed(flow, CALL, epoch(records, 1))
    assert flow.is_ended
    late, again = fed(flow, CALL, epoch([records[0]] * 2, 2), first=len(records))
    assert late.standing is not None
    assert late.standing[0] == "complete"
    assert flow.feed_epoch == 2
    assert again.standing is None


def test_a_feed_that_has_lost_the_call_is_not_heard() -> None:
    records = CALL.records()
    flow = flow_of(CALL)
    heard = fed(flow, CALL, [*epoch(records[:4], 1), *epoch(records[:6], 2), *epoch(records[4:6], 1)])
    assert [effects.is_heard for effects in heard] == [True] * 10 + [False] * 2


def test_a_pause_in_the_middle_of_a_word_holds_nothing() -> None:
    """A call may be paused for an hour: the commit of its partition must not wait for it."""
    call = replace(CALL, controls=((0.9, "pause", {}),))
    flow, log = flow_of(call), call.records()
    at = next(index for index, record in enumerate(log) if record.kind == "pause")
    before = [offset for effects in fed(flow, call, log[:at]) for offset in effects.released]
    assert len(before) < at  # somebody speaks
    (effects,) = fed(flow, call, [log[at]], first=at)
    assert sorted([*before, *effects.released]) == list(range(at + 1))


def test_a_paused_call_may_be_silent() -> None:
    call = replace(CALL, controls=((1.0, "pause", {}),))
    flow = flow_of(call)
    fed(flow, call, [record for record in call.records() if record.kind != "ended"])
    assert flow.idle_record(is_paused_too=False) is None
    assert flow.idle_record(is_paused_too=True) is not None


def test_a_feed_that_stops_while_paused_says_how_far_it_has_come() -> None:
    """The next one goes on behind the pause, which is still on."""
    call = replace(CALL, controls=((1.0, "pause", {}),))
    log = [record for record in call.records() if record.kind != "ended"]
    flow = flow_of(call)
    fed(flow, call, log)
    pause = next(record for record in log if record.kind == "pause")
    stopped = replace(
        pause,
        kind="interrupted",
        sequence=pause.sequence + 1,
        start_sample=3 * 8000,
        interrupted=Interrupted(reason="stopped"),
    )
    (effects,) = fed(flow, call, [stopped], first=len(log))
    assert effects.standing is not None
    assert effects.standing[0] == "interrupted"
    assert effects.standing[1].end_samples == {0: 24_000, 1: 24_000}


def test_nobody_else_decides_by_the_clock() -> None:
    flow = flow_of(CALL)
    fed(flow, CALL, CALL.records()[:3])
    for record in (replace(CALL.records()[3], stage="asr"), replace(CALL.records()[3], stage="vad")):
        with pytest.raises(PoisonError, match="not a writer"):
            next(flow.feed(record, 4))


def test_a_decision_that_comes_behind_the_end_is_no_poison() -> None:
    flow = flow_of(CALL)
    records = CALL.records()
    fed(flow, CALL, records[:12])
    decision = flow.idle_record(is_paused_too=False)
    fed(flow, CALL, records[12:], first=12)
    (effects,) = fed(flow, CALL, [decision], first=99)  # type: ignore[list-item]
    assert (effects.outputs, effects.released) == ([], [99])


@BOUNDED
@given(call=calls(), at=st.integers(3, 60), behind=st.integers(0, 30))
def test_a_restart_decides_alike(call: Call, at: int, behind: int) -> None:
    """The decision stands in the log: whatever was recorded before a crash, its effects are the same."""
    records = epoch(call.records(), 1)
    at = min(at, len(records) - 1)
    plain = flow_of(call)
    fed(plain, call, records[:at])
    decision = plain.idle_record(is_paused_too=False)
    if decision is None:
        return
    log = [*records[:at], decision, *records[at:]]
    expected = {(o.channel, o.sequence): o for effects in fed(flow_of(call), call, log) for o in effects.outputs}
    made, states = dict[Any, Any](), dict[int, LaneState]()
    for effects in fed(flow_of(call), call, log[: at + 1 + behind]):
        made |= {(o.channel, o.sequence): o for o in effects.outputs}
        states |= {state.channel: state for state in effects.states}
    for effects in fed(flow_of(call, states), call, log):
        made |= {(o.channel, o.sequence): o for o in effects.outputs}
    assert made == expected


def test_a_state_from_before_asks_for_its_input() -> None:
    records = CALL.records()
    states, older = dict[int, LaneState](), dict[int, LaneState]()
    released: set[int] = set()
    for number, effects in enumerate(fed(flow_of(CALL), CALL, records[:34])):
        states |= {state.channel: state for state in effects.states}
        released |= set(effects.released)
        if number == 8:
            older = dict(states)
    committed = next(offset for offset in range(len(records)) if offset not in released)
    stale = states | {0: older[0]}
    assert older[0].needed_offset < committed
    flow = flow_of(CALL, stale, read_from=committed)
    with pytest.raises(StaleStateError) as caught:
        fed(flow, CALL, records[committed:], first=committed)
    assert caught.value.offset == older[0].needed_offset
    flow = flow_of(CALL, stale, read_from=caught.value.offset)
    fed(flow, CALL, records[caught.value.offset :], first=caught.value.offset)
    assert flow.is_ended


def test_the_end_of_a_feed_that_counts_on_from_too_low_counts() -> None:
    """A feed said that it goes and died before call.state did: who took the call over numbers its control records from the start."""
    records = CALL.records()
    flow = flow_of(CALL)
    fed(flow, CALL, epoch(records[:12], 1))
    end = next(record for record in records if record.kind == "ended")
    gone = replace(end, kind="interrupted", feed_epoch=1, ended=None, interrupted=Interrupted(reason="stopped"))
    (left,) = fed(flow, CALL, [gone], first=12)
    assert left.standing is not None
    assert left.standing[0] == "interrupted"
    assert left.standing[1].next_sequence[-1] == end.sequence + 1
    effects = fed(flow, CALL, epoch(records, 2), first=13)
    assert flow.is_ended
    assert effects[-1].standing is not None
    assert effects[-1].standing[0] == "complete"


def test_only_the_stage_with_the_clock_says_that_a_feed_goes_on() -> None:
    call = Call(script=CALL.script, seconds=CALL.seconds)
    vad, asr = flow_of(call), stages(call)["asr"]
    records = epoch(call.records(), 1)
    outputs = [output for effects in fed(vad, call, records[:12]) for output in effects.outputs]
    later = CallFlow(call_id=call.call_id, logic=asr.logic, writes=asr.writes, writers=asr.writers, stage="asr")
    for offset, output in enumerate(outputs[:-1]):
        step(later, asr, output, offset)
    last = outputs[-1]
    gone = replace(
        last, kind="interrupted", channel=-1, sequence=1, speech=None, gap=None, interrupted=Interrupted(reason="idle")
    )
    step(later, asr, gone, len(outputs))
    effects = step(later, asr, last, len(outputs) + 1)
    assert "resumed" not in [output.kind for output in effects.outputs]
    assert effects.standing is None


def test_the_first_record_of_a_feed_says_where_it_goes_on() -> None:
    """A pipe cannot be fed again: it waits for this, and nothing that an earlier feed sends behind it counts."""
    first, second = epoch(CALL.records(), 1), epoch(CALL.records(), 2)
    flow = flow_of(CALL)
    assert all(effects.standing is None for effects in fed(flow, CALL, first[:12]))
    late = first[12]  # the earlier feed lives, and is heard before the other one
    fed(flow, CALL, [late], first=12)
    (taken,) = fed(flow, CALL, [second[0]], first=13)
    assert taken.outputs == []
    assert taken.standing is not None
    state, place = taken.standing
    assert (state, flow.feed_epoch) == ("live", 2)
    count = {channel: sum(record.channel == channel for record in first[:13]) for channel in place.next_sequence}
    assert place.next_sequence == count
    (void,) = fed(flow, CALL, [first[13]], first=14)
    assert (void.outputs, void.repeats) == ([], 1)
    next_one = next(record for record in second[13:] if record.channel == first[13].channel)
    assert next_one.sequence == place.next_sequence[next_one.channel]
    (used,) = fed(flow, CALL, [next_one], first=15)
    assert used.repeats == 0


def test_a_call_that_is_ended_without_its_end_belongs_to_the_feed_that_had_it_at_last() -> None:
    flow = flow_of(CALL)
    fed(flow, CALL, epoch(CALL.records()[:12], 1))
    effects = inferred(
        stages(CALL)["vad"], flow.end_unheard(CallAudio, 11, end_samples={0: 2**62, 7: 5}, reason="completed", epoch=3)
    )
    assert flow.is_ended
    assert flow.feed_epoch == 3
    assert effects.standing is not None
    assert effects.standing[0] == "complete"
    (gap,) = [output.gap for output in effects.outputs if output.gap is not None and output.channel == 0]
    assert gap.end_sample < 2**40  # as far as any record reaches
    (ended,) = [output.ended for output in effects.outputs if output.kind == "ended"]
    assert set(ended.end_samples) == {"0"}
    (late,) = fed(flow, CALL, epoch(CALL.records()[-1:], 3), first=30)
    assert late.outputs == []


def test_a_call_that_has_not_started_is_not_ended() -> None:
    flow = flow_of(CALL)
    effects = inferred(stages(CALL)["vad"], flow.end_unheard(CallAudio, 0, end_samples={}, reason="completed"))
    assert effects == Effects()
    assert not flow.is_ended


def test_a_paused_call_that_broke_off_was_paused_to_its_end() -> None:
    call = replace(CALL, seconds=3.0, controls=((2.9, "pause", {}),), is_ended=False)
    records = epoch(call.records(), 1)
    pause = next(record for record in records if record.kind == "pause")
    later = {"sequence": pause.sequence + 1, "start_sample": 5 * pause.sample_rate_hz}
    records.append(replace(pause, kind="dtmf", dtmf=Dtmf(digits="1"), **later))
    flow = flow_of(call)
    fed(flow, call, records)
    decision = flow.idle_record(is_paused_too=True)
    assert decision is not None
    (effects,) = fed(flow, call, [decision], first=len(records))
    assert effects.standing is not None
    ends = effects.standing[1].end_samples
    assert ends[0] == 5 * 8_000
    steps = flow.end_unheard(CallAudio, len(records), end_samples=ends, reason="interrupted")
    outputs = [output for output in inferred(stages(call)["vad"], steps).outputs if output.channel == 0]
    assert [(output.kind, output.gap.reason) for output in outputs if output.gap is not None] == [("paused", "paused")]
