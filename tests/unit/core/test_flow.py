from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.contract import Draft, Lane, Snapshot, Step
from pipeline.core.errors import FatalError, PoisonError
from pipeline.core.flow import MAX_HELD, CallFlow, Effects
from schemas.records import CallAnnotation, CallSegment, CallSpeech, Ended, Hold, Speech, Started
from tests.fakes import CALL, CODEC, EPOCH_MS, Call, said, stages, step

STARTED = Call(script={0: (), 1: said("hello", at=0.1)}, seconds=1.0).started


class Counting:
    """Writes one record for every ``per`` records of speech, and asks the engine about each: ``R`` is what it adds."""

    kinds = frozenset({"speech", "gap"})
    controls = frozenset({"settings", "ended"})

    def __init__(self, per: int = 1) -> None:
        self.per = per
        self.opened: list[Lane] = []

    def open(self, lane: Lane) -> tuple[int, int]:
        self.opened.append(lane)
        return (0, 0)

    def plan(self, state: tuple[int, int], record: Any) -> Step[tuple[int, int], int]:
        if record.kind == "speech":
            if record.speech is None:
                raise PoisonError("no speech")
            return Step(state, work=len(record.speech.audio))
        kind = {"ended": "last", "gap": "gap", "settings": "heard"}[record.kind]
        body = {"gap": record.gap} if kind == "gap" else {}
        return Step(state, (Draft(kind=kind, start_sample=record.start_sample, body=body),))

    def apply(self, state: tuple[int, int], work: int, result: int) -> Step[tuple[int, int], int]:
        count, total = state[0] + 1, state[1] + result
        if count % self.per:
            return Step((count, total))
        return Step((count, total), (Draft(kind="sum", start_sample=total),))

    def snapshot(self, state: tuple[int, int]) -> Snapshot | None:
        return Snapshot(data=f"{state[0]},{state[1]}".encode()) if state[0] % self.per == 0 else None

    def restore(self, lane: Lane, data: bytes) -> tuple[int, int]:
        count, total = data.split(b",")
        return int(count), int(total)


def flow(per: int = 1, **changes: Any) -> CallFlow[Any, Any, Any]:
    made = {"call_id": CALL, "logic": Counting(per), "writes": CallSegment, "writers": ("vad",), "stage": "test"}
    return CallFlow(**(made | changes))


def record(kind: str, channel: int, sequence: int, start: int = 0, **body: Any) -> CallSpeech:
    return CallSpeech(
        call_id=CALL,
        kind=kind,
        channel=channel,
        sequence=sequence,
        start_sample=start,
        sample_rate_hz=8_000,
        capture_time_ms=EPOCH_MS + start // 8,
        **body,
    )


def started() -> CallSpeech:
    return record("started", -1, 0, started=STARTED)


def speech(sequence: int, size: int = 10, channel: int = 0) -> CallSpeech:
    body = Speech(utterance=0, is_first=False, is_last=False, is_continuation=False, audio=bytes(size))
    return record("speech", channel, sequence, sequence * 800, speech=body)


def ended(sequence: int = 1, start: int = 80_000) -> CallSpeech:
    return record("ended", -1, sequence, start, ended=Ended(reason="completed", end_samples={}))


def feed(target: CallFlow[Any, Any, Any], value: Any, offset: int, known: Started | None = None) -> Effects:
    steps = target.feed(value, offset, known)
    try:
        work = next(steps)
        while True:
            work = steps.send(work)
    except StopIteration as stop:
        effects: Effects = stop.value
        return effects


def test_the_first_record_opens_every_lane_and_is_copied() -> None:
    target = flow()
    effects = feed(target, started(), 0)
    assert list(target.channels) == [0, 1]
    assert [(r.kind, r.channel, r.sequence, r.started) for r in effects.outputs] == [("started", -1, 0, STARTED)]
    assert [state.channel for state in effects.states] == [-1, 0, 1]
    assert effects.states[0].started == STARTED
    assert effects.released == [0]


@pytest.mark.parametrize(
    "value",
    [
        speech(0),
        record("hold", -1, 0, hold=Hold(active=True)),
        record("started", -1, 0),
        record("started", -1, 0, started=replace(STARTED, channels=())),
        record("started", -1, 0, started=replace(STARTED, channels=STARTED.channels[1:])),
        record(
            "started", -1, 0, started=replace(STARTED, channels=(replace(STARTED.channels[0], sample_rate_hz=44_100),))
        ),
    ],
)
def test_a_call_starts_with_a_usable_start(value: CallSpeech) -> None:
    target = flow()
    with pytest.raises(PoisonError):
        feed(target, value, 0)
    assert not target.channels
    feed(target, started(), 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (speech(0, channel=2), "not one of the call's 2"),
        (replace(speech(0), sample_rate_hz=16_000), "8000 Hz"),
        (record("hold", -1, 1, hold=Hold(active=True)), None),
        (replace(record("hold", -1, 1), sample_rate_hz=16_000), "8000 Hz"),
    ],
)
def test_records_that_do_not_fit_the_call_are_poison(value: CallSpeech, reason: str | None) -> None:
    target = flow()
    feed(target, started(), 0)
    if reason is None:
        assert [r.hold for r in feed(target, value, 1).outputs] == [Hold(active=True)]
    else:
        with pytest.raises(PoisonError, match=reason):
            feed(target, value, 1)


def test_outputs_are_counted_and_stamped() -> None:
    target = flow()
    feed(target, started(), 0)
    made = [r for i in range(3) for r in feed(target, speech(i, size=800 * i), i + 1).outputs]
    assert [r.sequence for r in made] == [0, 1, 2]
    assert [r.start_sample for r in made] == [0, 800, 2_400]
    assert [r.capture_time_ms for r in made] == [EPOCH_MS, EPOCH_MS + 100, EPOCH_MS + 300]
    assert {(r.call_id, r.channel, r.sample_rate_hz) for r in made} == {(CALL, 0, 8_000)}


def test_lanes_count_apart() -> None:
    target = flow()
    feed(target, started(), 0)
    made = [feed(target, speech(n, channel=channel), 1).outputs[0] for n in range(2) for channel in (0, 1)]
    assert [(r.channel, r.sequence) for r in made] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_a_repeat_is_released_and_nothing_else() -> None:
    target = flow()
    feed(target, started(), 0)
    feed(target, speech(0), 1)
    effects = feed(target, speech(0), 2)
    assert (effects.outputs, effects.states, effects.released) == ([], [], [2])
    effects = feed(target, started(), 3)
    assert (effects.outputs, effects.states, effects.released) == ([], [], [3])


def test_a_missing_sequence_becomes_a_gap_before_the_record() -> None:
    target = flow()
    feed(target, started(), 0)
    feed(target, speech(0), 1)
    made = feed(target, speech(4), 2).outputs
    assert [r.kind for r in made] == ["gap", "sum"]
    assert (made[0].gap.end_sample, made[0].gap.reason) == (3_200, "missing_records")
    assert feed(target, speech(2), 3).outputs == []  # it came late: the gap stands


def test_offsets_wait_for_a_position_that_can_be_resumed() -> None:
    target = flow(per=3)
    feed(target, started(), 0)
    assert feed(target, speech(0), 1).released == []
    assert feed(target, speech(1), 2).released == []
    effects = feed(target, speech(2), 3)
    assert effects.released == [1, 2, 3]
    assert [(s.channel, s.output_sequence, s.positions[0].next_sequence) for s in effects.states] == [(0, 1, 3)]


def test_control_waits_for_the_lanes_it_concerns() -> None:
    target = flow(per=2)
    feed(target, started(), 0)
    feed(target, speech(0), 1)
    effects = feed(target, record("hold", -1, 1, hold=Hold(active=True)), 2)
    assert [r.kind for r in effects.outputs] == ["hold"]
    assert effects.released == []  # lane 0 is in the middle of something
    assert [state.channel for state in effects.states] == [-1, 1]
    assert feed(target, speech(1), 3).released == [1, 2, 3]


def test_a_quiet_lane_is_recorded_now_and_then() -> None:
    class Silent(Counting):
        def apply(self, state: tuple[int, int], work: int, result: int) -> Step[tuple[int, int], int]:
            return Step((state[0] + 1, 0))

    target = flow(logic=Silent())
    feed(target, started(), 0)
    effects = [feed(target, speech(i), i + 1) for i in range(2 * MAX_HELD)]
    assert [len(e.released) for e in effects if e.released] == [MAX_HELD, MAX_HELD]


def test_records_of_other_kinds_are_passed_on_and_tails_are_not() -> None:
    target = flow(writers=("asr",))
    feed(target, started(), 0)
    assert [r.kind for r in feed(target, record("hold", 0, 0, hold=Hold(active=True)), 1).outputs] == ["hold"]
    effects = feed(target, record("tail", 0, 1), 2)
    assert (effects.outputs, effects.released) == ([], [2])
    assert [r.kind for r in feed(target, speech(1), 3).outputs] == ["sum"]


def test_the_end_comes_after_the_last_output_of_every_lane() -> None:
    target = flow(per=2)
    feed(target, started(), 0)
    feed(target, speech(0), 1)
    effects = feed(target, ended(), 2)
    assert [(r.kind, r.channel) for r in effects.outputs] == [("last", 0), ("last", 1), ("ended", -1)]
    assert effects.released == [1, 2]
    assert [(state.channel, state.ended_offset) for state in effects.states] == [(0, None), (1, None), (-1, 2)]
    assert target.is_ended
    assert feed(target, speech(0), 3).released == [3]
    with pytest.raises(PoisonError, match="has ended"):
        feed(target, speech(1), 4)


def test_the_end_waits_for_every_writer() -> None:
    target = flow(writers=("asr", "diarize"))

    def written(value: CallSpeech, stage: str) -> CallAnnotation:
        body = {"started": value.started, "ended": value.ended}
        return CallAnnotation(
            call_id=CALL,
            stage=stage,
            kind=value.kind,
            channel=value.channel,
            sequence=value.sequence,
            start_sample=value.start_sample,
            sample_rate_hz=8_000,
            capture_time_ms=0,
            **body,
        )

    assert [r.kind for r in feed(target, written(started(), "diarize"), 0).outputs] == []
    assert [r.kind for r in feed(target, written(started(), "asr"), 1).outputs] == ["started"]
    first = feed(target, written(ended(), "diarize"), 2)
    assert (first.outputs, first.released, target.is_ended) == ([], [], False)
    last = feed(target, written(ended(), "asr"), 3)
    assert [r.kind for r in last.outputs][-1] == "ended"
    assert last.released == [2, 3]
    with pytest.raises(PoisonError, match="not a writer"):
        feed(target, written(started(), "vad"), 4)


def test_a_rejection_marks_the_call_once() -> None:
    target = flow()
    feed(target, started(), 0)
    with pytest.raises(PoisonError):
        feed(target, record("speech", 0, 0), 1)
    effects = target.reject(1, reason="PoisonError", topic="t", partition=3)
    assert [(r.kind, r.degraded.offset, r.degraded.partition) for r in effects.outputs] == [("degraded", 1, 3)]
    assert effects.states[0].poison_offset == 1
    assert effects.released == [1]
    assert target.reject(1, reason="PoisonError", topic="t", partition=3).outputs == []
    assert [r.kind for r in feed(target, speech(1), 2).outputs] == ["gap", "sum"]


def test_a_record_before_the_start_is_rejected_without_an_output() -> None:
    effects = flow().reject(0, reason="PoisonError", topic="t", partition=0)
    assert (effects.outputs, effects.states, effects.released) == ([], [], [0])


def test_a_flow_goes_on_from_its_states() -> None:
    target = flow()
    states = {state.channel: state for state in feed(target, started(), 0).states}
    for i in range(3):
        states |= {state.channel: state for state in feed(target, speech(i), i + 1).states}
    kept = {channel: CODEC.decode(CODEC.encode(state), type(state)) for channel, state in states.items()}
    again = flow(restored=kept)
    assert feed(again, speech(2), 3).outputs == []
    assert feed(again, speech(3), 4).outputs == feed(target, speech(3), 4).outputs


@pytest.mark.parametrize("name", ["vad", "asr", "diarize", "assemble"])
def test_a_state_that_cannot_be_read_is_fatal(name: str) -> None:
    call = Call(script={0: ()}, seconds=1.0)
    stage, records = stages(call)["vad"], call.records()
    states = {state.channel: state for state in step(stage.flow(), stage, records[0], 0).states}
    with pytest.raises(FatalError):
        stages(call)[name].flow(states | {0: replace(states[0], logic=b"\xff" * 3)})


def test_a_call_that_ended_stays_ended() -> None:
    target = flow()
    feed(target, started(), 0)
    states = {state.channel: state for state in feed(target, ended(), 1).states}
    again = flow(restored=states)
    assert again.is_ended
    assert feed(again, started(), 0).released == [0]
    assert feed(again, ended(), 2).released == [2]


def test_of_an_ended_call_a_mark_is_enough_to_know_repeats_from_news() -> None:
    """A stage died, and writes the call again long after it has ended here: nothing of it may open a call, or be a dead letter."""
    target = flow()
    log = [started(), speech(0), speech(1), speech(0, channel=1), ended()]
    control = next(
        state
        for offset, value in enumerate(log)
        for state in feed(target, value, offset).states
        if state.channel == -1 and state.ended_offset is not None
    )
    again = flow(restored={-1: replace(control, started=None)})
    assert again.is_ended
    halfway = flow(restored={-1: control})  # the worker died between the tombstones of the lanes and the mark
    for offset, value in enumerate(log, start=20):
        for one in (again, halfway):
            effects = feed(one, value, offset)
            assert (effects.released, effects.outputs, effects.states) == ([offset], [], [])
    for news in (speech(2), speech(2, channel=1), ended(sequence=2)):
        with pytest.raises(PoisonError, match="the call has ended"):
            feed(again, news, 40)
        assert again.reject(40, reason="PoisonError", topic="t", partition=0).outputs == []


def test_what_came_before_is_counted_as_a_repeat() -> None:
    target = flow()
    log = [started(), speech(0), speech(1)]
    assert [feed(target, value, offset).repeats for offset, value in enumerate(log)] == [0, 0, 0]
    again = [feed(target, value, offset).repeats for offset, value in enumerate([*log, record("tail", 0, 2)], start=3)]
    assert again == [1, 1, 1, 0]  # a tail says what may change: it is no repeat
