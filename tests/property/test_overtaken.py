"""A stage stands still in the middle of a call, and comes back behind what its topic has deleted: some records, or all there were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.effects import Effects
from pipeline.core.flow import CallFlow
from pipeline.core.ids import CALL_CHANNEL
from pipeline.sink.logic import plan
from pipeline.sink.stores.tables import GAPS, latest
from pipeline.stages import spec
from pipeline.vad.stage import SPEC
from schemas.records import CallAudio, Ended
from tests.fakes import Call, Stage, inferred, outputs_of, passed, run, said, stages, step
from tests.property.durable import BOUNDED, calls, log_of, once
from tests.property.test_coverage import CONTROLS, account

NAMES = ("vad", "asr", "diarize", "assemble")
LAST = 10_000  # more records than any call has: nothing is left
CUT = Call(
    script={0: said("one two three four five six.", at=1.0) + said("seven eight nine.", at=5.0)},
    seconds=9.0,
    roles=("mixed",),
)


def ends_of(call: Call) -> dict[int, int]:
    """Return the end of the audio that the feed says it had, by leg."""
    ended = call.records()[-1].ended
    assert ended is not None
    return {int(channel): end for channel, end in ended.end_samples.items()}


def end_unheard(flow: CallFlow[Any, Any, Any], stage: Stage, offset: int, end_samples: Mapping[int, int]) -> Effects:
    """End the call as the worker does that finds nothing more of it."""
    steps = flow.end_unheard(spec(stage.name).reads, offset, end_samples=end_samples, reason="completed")
    return inferred(stage, steps)


def overtaken(call: Call, name: str, share: float, lost: int) -> tuple[list[Any], list[Any]]:
    """Return what the stage reads of the call if nothing is deleted, and what it writes where ``lost`` records are, behind a share."""
    log = log_of(call, name)
    at = max(2, round(len(log) * share))
    stage = stages(call)[name]
    states: dict[int, Any] = {}
    written: list[Any] = []
    flow = stage.flow()
    for offset, record in enumerate(log[:at]):
        effects = step(flow, stage, record, offset)
        written += effects.outputs
        states |= {state.channel: passed(state) for state in effects.states}
    if flow.is_ended:
        return log, written
    first = min(at + lost, len(log))
    flow = stage.flow(restored=states, read_from=first, first_offset=first)
    for offset, record in enumerate(log[first:], start=first):
        written += step(flow, stage, record, offset, call.started).outputs
    if not flow.is_ended:
        written += end_unheard(flow, stage, len(log) - 1, ends_of(call)).outputs
        assert flow.is_ended
    return log, written


@BOUNDED
@given(
    call=calls(controls=CONTROLS),
    name=st.sampled_from(NAMES),
    share=st.floats(0.02, 0.98),
    lost=st.one_of(st.integers(1, 90), st.just(LAST)),
)
@example(call=CUT, name="vad", share=0.62, lost=16)
@example(call=CUT, name="vad", share=0.62, lost=LAST)
@example(call=CUT, name="asr", share=0.62, lost=LAST)
@example(call=CUT, name="assemble", share=0.62, lost=LAST)
def test_what_was_deleted_before_it_was_read_is_accounted_for(call: Call, name: str, share: float, lost: int) -> None:
    log, written = overtaken(call, name, share, lost)
    once(written)
    speech = written if name == "vad" else log
    if name == "assemble":
        segments = written
    else:
        annotations = [
            record
            for one in ("asr", "diarize")
            for record in (written if one == name else outputs_of(run(stages(call)[one], speech)))
        ]
        segments = outputs_of(run(stages(call)["assemble"], annotations))
    found = account(segments)
    assert found.problems == ()
    assert found.state == "complete"
    reasons = {row.reason for row in latest(GAPS, plan(segments).gaps)}
    # The latter only up to where the stage stood: the next one sees a hole there.
    assert reasons <= {"deleted_records", "missing_records"}
    assert not reasons or "deleted_records" in reasons


@BOUNDED
@given(call=calls(controls=CONTROLS), name=st.sampled_from(NAMES), share=st.floats(0.02, 0.98))
@example(call=CUT, name="asr", share=0.62)
def test_a_crash_while_a_call_is_ended_without_a_record_changes_nothing(call: Call, name: str, share: float) -> None:
    log = log_of(call, name)
    at = max(2, round((len(log) - 1) * share))
    stage = stages(call)[name]
    states: dict[int, Any] = {}
    flow = stage.flow()
    for offset, record in enumerate(log[:at]):
        states |= {state.channel: passed(state) for state in step(flow, stage, record, offset).states}
    places = {"read_from": len(log), "first_offset": len(log)}
    first = end_unheard(stage.flow(restored=states, **places), stage, at, ends_of(call))
    recorded = sorted(first.states, key=lambda state: -state.channel)  # the control lane last, as the runner does
    for count in range(len(recorded) + 1):
        some = states | {state.channel: passed(state) for state in recorded[:count]}
        flow = stage.flow(restored=some, **places)
        again = end_unheard(flow, stage, at, ends_of(call))
        assert flow.is_ended
        assert all(output in first.outputs for output in again.outputs)
        assert count or again.outputs == first.outputs
        # What is not said again was confirmed before its lane was recorded.
        done = {state.channel for state in recorded[:count]}
        assert all(output in again.outputs or output.channel in done for output in first.outputs)


@BOUNDED
@given(call=calls(controls=CONTROLS), share=st.floats(0.02, 0.98), is_restarted=st.booleans())
def test_a_call_that_broke_off_ends_where_it_was_read_to(call: Call, share: float, is_restarted: bool) -> None:
    """Nothing of it is lost: it ends as if its feed had ended it there."""
    stage = replace(stages(call)["vad"], clocks=SPEC.clocks)
    log: list[Any] = call.records()[: max(2, round(len(call.records()) * share))]
    flow, states = stage.flow(), dict[int, Any]()
    place = None
    for offset, record in enumerate(log):
        effects = step(flow, stage, record, offset)
        states |= {state.channel: passed(state) for state in effects.states}
    decision = flow.idle_record(is_paused_too=True)
    if decision is not None:
        effects = step(flow, stage, decision, len(log))
        states |= {state.channel: passed(state) for state in effects.states}
        place = None if effects.standing is None else effects.standing[1]
    if place is None or not flow.is_quiet:
        return
    sequence = place.next_sequence[CALL_CHANNEL]
    ends = {str(channel): end for channel, end in sorted(place.end_samples.items())}
    ended = replace(call.records()[-1], sequence=sequence, ended=Ended(reason="interrupted", end_samples=ends))

    def again() -> Any:
        return stage.flow(restored=states, read_from=len(log) + 1, first_offset=len(log) + 1 if is_restarted else 0)

    read = step(again(), stage, ended, len(log) + 1).outputs
    unread = inferred(
        stage,
        again().end_unheard(CallAudio, len(log), end_samples=place.end_samples, reason="interrupted"),
    ).outputs
    assert [unplaced(output) for output in unread] == [unplaced(output) for output in read]


def unplaced(output: Any) -> Any:
    """Return an output without its sequence, and without what a feed says of its own end."""
    blank = {"start_sample": 0, "capture_time_ms": 0} if output.kind == "ended" else {}
    return replace(output, sequence=0, **blank)
