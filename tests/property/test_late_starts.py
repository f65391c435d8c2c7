"""A stage that was away since before the call began, and comes back behind what its topic has deleted: from the start to anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sink.logic import plan
from pipeline.sink.stores.tables import GAPS, latest
from schemas.records import CallSegment
from tests.fakes import Call, outputs_of, run, run_chain, said, stages
from tests.property.durable import BOUNDED, Crash, Durable, calls, crashed, crashes, identity, once
from tests.property.test_coverage import CONTROLS, account

NAMES = ("vad", "asr", "diarize", "assemble")


def inputs(call: Call) -> dict[str, list[Any]]:
    """Return the input topic of every stage."""
    chain = run_chain(call)
    speech = chain.outputs["vad"]
    return {"vad": call.records(), "asr": speech, "diarize": speech, "assemble": chain.annotations}


def late(call: Call, name: str, log: Sequence[Any], first: int, schedule: Iterable[Crash] = ()) -> list[Any]:
    """Return what the stage writes that finds the log from ``first`` on."""
    durable = crashed(Durable(stages(call)[name], list(log), first=first, known=call.started), schedule)
    assert durable.committed == len(log)
    return sorted(once(durable.topic), key=identity)


def stored(call: Call, name: str, written: list[Any], log: Sequence[Any]) -> list[CallSegment]:
    """Return call.segments behind what the stage has written."""
    speech = written if name == "vad" else log
    annotations = {
        one: written if one == name else outputs_of(run(stages(call)[one], speech))
        for one in ("asr", "diarize")
        if name != "assemble"
    }
    joined = [record for records in annotations.values() for record in records]
    return written if name == "assemble" else outputs_of(run(stages(call)["assemble"], joined))


def last_first(log: Sequence[Any]) -> int:
    """Return the latest beginning of the log from which the call can still end."""
    return min(offset for offset, record in enumerate(log) if record.kind == "ended")


def in_order(records: Iterable[Any]) -> list[Any]:
    """Return the records of a stage as it wrote them: every lane in order, the end of the call last."""
    return sorted(
        records, key=lambda record: (record.kind == "ended", record.kind != "started", record.channel, record.sequence)
    )


@BOUNDED
@given(
    call=calls(controls=CONTROLS),
    name=st.sampled_from(NAMES),
    share=st.floats(0, 1),
    schedule=crashes(),
)
def test_crashes_change_nothing(call: Call, name: str, share: float, schedule: list[Crash]) -> None:
    log = inputs(call)[name]
    first = max(1, round(last_first(log) * share))
    assert late(call, name, log, first, schedule) == late(call, name, log, first)


@BOUNDED
@given(call=calls(controls=CONTROLS), name=st.sampled_from(NAMES), share=st.floats(0, 1))
def test_every_sample_is_accounted_for(call: Call, name: str, share: float) -> None:
    log = inputs(call)[name]
    first = max(1, round(last_first(log) * share))
    written = in_order(late(call, name, log, first))
    segments = stored(call, name, written, log)
    found = account(segments)
    assert found.problems == ()
    assert found.state == "complete"
    assert len(found.channels) == len(call.started.channels)
    assert {row.reason for row in latest(GAPS, plan(segments).gaps)} <= {"deleted_records"}


SPOKEN = Call(script={0: said("one two three.", at=1.0) + said("four.", at=4.0), 1: ()}, seconds=8.0)


@pytest.mark.parametrize("name", ["vad", "asr", "assemble"])
def test_a_call_of_which_only_the_end_is_left_is_one_gap(name: str) -> None:
    call = replace(SPOKEN, offsets={1: 2.0})
    log = inputs(call)[name]
    written = in_order(late(call, name, log, last_first(log)))
    segments = stored(call, name, written, log)
    found = account(segments)
    assert found.problems == ()
    spans = [
        [(span.kind, span.reason, span.start_sample, span.end_sample) for span in one.spans] for one in found.channels
    ]
    assert spans == [[("gap", "deleted_records", 0, 64_000)], [("gap", "deleted_records", 16_000, 64_000)]]


def test_a_stage_whose_output_needs_the_start_alone_loses_nothing() -> None:
    log = inputs(SPOKEN)["diarize"]
    written = late(SPOKEN, "diarize", log, last_first(log))
    turns = [record for record in written if record.kind == "turns"]
    assert [record.turns for record in turns] == [
        record.turns for record in outputs_of(run(stages(SPOKEN)["diarize"], log)) if record.turns is not None
    ]
