"""A stage that reads two writers, and after a restart needs records of one of them again."""

from __future__ import annotations

from typing import Any

from pipeline.core.contract import Draft, Lane, Snapshot, Step
from pipeline.core.flow import CallFlow
from pipeline.core.losses import finished
from schemas.records import CallAnnotation, CallSegment, Ended, LaneState
from tests.fakes import CALL, CODEC, EPOCH_MS, Call

STARTED = Call(script={0: ()}, seconds=1.0).started
Heard = tuple[str, ...]


class Waiting:
    """Needs what asr has written, from its second record on; every record of diarize is an output."""

    kinds = frozenset({"words", "turns", "gap"})
    controls = frozenset({"ended"})

    def open(self, lane: Lane) -> Heard:
        return ()

    def plan(self, state: Heard, record: Any) -> Step[Heard, Any]:
        if record.kind == "words":
            return Step((*state, f"{record.sequence}"))
        return Step(state, (Draft(kind=f"after {','.join(state)}", start_sample=record.start_sample - 1),))

    def apply(self, state: Heard, work: Any, result: Any) -> Step[Heard, Any]:
        raise AssertionError("nothing is inferred")

    def snapshot(self, state: Heard) -> Snapshot | None:
        if len(state) < 2:
            return Snapshot(data=",".join(state).encode())
        return Snapshot(data=state[0].encode(), needed_sequence=1, needed_writer="asr")

    def restore(self, lane: Lane, data: bytes) -> Heard:
        return tuple(data.decode().split(",")) if data else ()


def flow(restored: dict[int, LaneState] | None = None) -> CallFlow[Any, Any, Any]:
    return CallFlow(
        call_id=CALL,
        logic=Waiting(),
        writes=CallSegment,
        writers=("asr", "diarize"),
        stage="test",
        restored=restored,
    )


def record(stage: str, kind: str, channel: int, sequence: int, start: int, **body: Any) -> CallAnnotation:
    return CallAnnotation(
        call_id=CALL,
        stage=stage,
        kind=kind,
        channel=channel,
        sequence=sequence,
        start_sample=start,
        sample_rate_hz=8_000,
        capture_time_ms=EPOCH_MS + start // 8 + 7 * (stage == "diarize"),  # a clock of its own
        **body,
    )


END = {"ended": Ended(reason="completed", end_samples={})}
LOG = [
    record("asr", "started", -1, 0, 0, started=STARTED),
    record("diarize", "started", -1, 0, 0, started=STARTED),
    record("asr", "words", 0, 0, 800),
    record("diarize", "turns", 0, 0, 900),
    record("asr", "words", 0, 1, 1_600),
    record("asr", "words", 0, 2, 2_400),
    record("diarize", "turns", 0, 1, 8_000),
    record("asr", "ended", -1, 1, 9_000, **END),
    record("diarize", "ended", -1, 1, 9_000, **END),
]


def test_what_one_writer_has_written_is_held_and_the_others_records_go() -> None:
    target, released = flow(), set[int]()
    for offset, one in enumerate(LOG[:7]):
        released |= set(finished(target.feed(one, offset)).released)
    assert released == {0, 1, 2, 3, 6}


def test_after_a_restart_the_lane_is_as_it_was() -> None:
    """Its clock, too: what it says at the end has the time it would have had."""
    target, states = flow(), dict[int, LaneState]()
    for offset, one in enumerate(LOG[:7]):
        effects = finished(target.feed(one, offset))
        states |= {state.channel: CODEC.decode(CODEC.encode(state), LaneState) for state in effects.states}
    needed = {one.writer: (one.needed_sequence, one.next_sequence) for one in states[0].positions}
    assert needed == {"asr": (1, 3), "diarize": (2, 2)}
    again = flow(states)
    for offset in range(4, 7):
        assert finished(again.feed(LOG[offset], offset)).outputs == []
    for offset in (7, 8):
        expected = finished(target.feed(LOG[offset], offset))
        assert finished(again.feed(LOG[offset], offset)).outputs == expected.outputs
    assert [one.kind for one in expected.outputs] == ["after 0,1,2", "ended"]
