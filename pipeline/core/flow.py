"""One call on its way through one stage: lanes, sequences, control, and what may be released when.

`CallFlow` is the frame every stage's logic is put into. It is pure: records go in, effects come out. The runner carries
the effects out in this order, and the delivery guarantee rests on it:

1. outputs are delivered (acknowledged by the broker);
2. states are recorded (acknowledged by the broker);
3. offsets are released.

Input is at-least-once and ordered per writer. Per lane the flow drops what it has seen (by sequence), turns a missing
sequence into a ``gap``, and counts its own outputs without holes, so the next stage can do the same. Because logic is
deterministic, a record that is processed again after a crash gives outputs with the same sequence numbers, which the
next stage drops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

from pipeline.core.contract import Draft, Envelope, Lane, LaneLogic, R, S, Snapshot, Step, W
from pipeline.core.entries import Held, LaneEntry, restored_entry
from pipeline.core.errors import FatalError, PoisonError
from pipeline.core.ids import CALL_CHANNEL
from pipeline.core.passing import check_control_rate, check_numbers, control_rate, copy_of, gap_before, is_own_degraded
from schemas.codec import CodecError
from schemas.records import CallAnnotation, Degraded, LanePosition, LaneState, Started

STATE_VERSION = 1
MAX_HELD = 64  # a lane without outputs is recorded after this many records, so that their offsets are released


@dataclass(slots=True, kw_only=True)
class Effects:
    """What a step of a flow asks of its runner, in the order of the guarantee."""

    outputs: list[Any] = field(default_factory=list)
    states: list[LaneState] = field(default_factory=list)
    released: list[int] = field(default_factory=list)


class CallFlow(Generic[S, W, R]):
    """The state of one call in one stage.

    ``restored`` are the lane states the changelog holds for the call. ``writes`` is the output envelope class,
    ``writers`` the stages that write the input, the first one authoritative for control. ``stage`` names the writer of
    the outputs where the output topic has several.
    """

    def __init__(
        self,
        *,
        call_id: str,
        logic: LaneLogic[S, W, R],
        writes: type[Envelope],
        writers: tuple[str, ...],
        stage: str,
        generation: int = 0,
        restored: Mapping[int, LaneState] | None = None,
    ) -> None:
        self.call_id = call_id
        self.is_ended = False
        self._logic = logic
        self._writes = writes
        self._writers = writers
        self._stage = stage
        self._generation = generation
        self._started: Started | None = None
        self._lanes: dict[int, LaneEntry[S]] = {}
        self._references: dict[int, int] = {}
        self._ends: dict[str, tuple[Envelope, int]] = {}
        self._ended_offset: int | None = None
        self._poison_offset: int | None = None
        if restored and CALL_CHANNEL in restored:
            self._restore(restored)

    # -- input ---------------------------------------------------------------------------------------------------

    def feed(self, record: Any, offset: int) -> Generator[W, R, Effects]:
        """Take in one record at ``offset``; yields work for the engine, expects its result, returns the effects.

        Raises PoisonError when the record can never be used; the flow is then as before, and the runner calls `reject`.
        """
        effects = Effects()
        writer = self._writer_of(record)
        check_numbers(record)
        if self.is_ended:
            if self._ended_offset is not None and offset > self._ended_offset and not self._is_repeat(record, writer):
                raise PoisonError(
                    f"the call has ended; {record.kind} record {record.sequence} of channel {record.channel} came after"
                )
            effects.released.append(offset)
            return effects
        if record.channel == CALL_CHANNEL:
            yield from self._feed_control(record, writer, offset, effects)
        else:
            yield from self._feed_lane(record, writer, offset, effects)
        self._settle(effects)
        return effects

    def reject(self, offset: int, *, reason: str, topic: str, partition: int) -> Effects:
        """Mark the call degraded by an unusable record at ``offset``."""
        effects = Effects(released=[offset])
        control = self._lanes.get(CALL_CHANNEL)
        if control is None or self.is_ended or (self._poison_offset is not None and offset <= self._poison_offset):
            return effects
        self._poison_offset = offset
        sample = control.anchor[0] if control.anchor else 0
        body = Degraded(stage=self._stage, reason=reason, topic=topic, partition=partition, offset=offset)
        effects.outputs.append(
            self._stamp(control, Draft(kind="degraded", start_sample=sample, body={"degraded": body}))
        )
        control.is_dirty = True
        self._settle(effects)
        return effects

    @property
    def channels(self) -> Mapping[int, Lane]:
        """Return the lanes by channel."""
        return {channel: lane.lane for channel, lane in self._lanes.items() if lane.lane is not None}

    # -- lanes ---------------------------------------------------------------------------------------------------

    def _feed_lane(self, record: Any, writer: str, offset: int, effects: Effects) -> Generator[W, R, None]:
        lane = self._lanes.get(record.channel)
        if self._started is None:
            raise PoisonError("the call has not started: its first record must be 'started'")
        if lane is None:
            raise PoisonError(f"channel {record.channel} is not one of the call's {len(self._started.channels)}")
        if record.sample_rate_hz != lane.rate:
            raise PoisonError(
                f"channel {record.channel} counts samples at {lane.rate} Hz, the record at {record.sample_rate_hz} Hz"
            )
        expected = lane.next_sequence.get(writer, 0)
        if record.sequence < expected or not self._is_sequenced(record):
            effects.released.append(offset)
            return
        state, outputs = lane.state, list[Draft]()
        assert state is not None
        is_rebuilt = record.sequence < lane.done_sequence.get(writer, 0)
        if record.sequence > expected:
            state = yield from self._run(
                self._logic.plan(state, gap_before(record, lane.anchor[0] if lane.anchor else record.start_sample)),
                outputs,
            )
        if record.kind in self._logic.kinds:
            state = yield from self._run(self._logic.plan(state, record), outputs)
        elif writer == self._writers[0]:
            outputs.append(copy_of(record))
        lane.state = state
        lane.anchor = (record.start_sample, record.capture_time_ms)
        lane.next_sequence[writer] = record.sequence + 1
        self._hold(lane, Held(writer, record.sequence, False, offset))
        if is_rebuilt:
            return
        effects.outputs += [self._stamp(lane, draft) for draft in outputs]
        lane.is_dirty |= any(draft.counted for draft in outputs) or len(lane.held) >= MAX_HELD

    def _run(self, step: Step[S, W], outputs: list[Draft]) -> Generator[W, R, S]:
        outputs += step.outputs
        while step.work is not None:
            result = yield step.work
            step = self._logic.apply(step.state, step.work, result)
            outputs += step.outputs
        return step.state

    # -- control -------------------------------------------------------------------------------------------------

    def _feed_control(self, record: Any, writer: str, offset: int, effects: Effects) -> Generator[W, R, None]:
        if self._started is None:
            if record.kind != "started" or record.started is None:
                raise PoisonError(f"the call has not started: a {record.kind} record came first")
            check_control_rate(record, record.started)
            self._open(record)
        else:
            check_control_rate(record, self._started)
        lanes = [lane for lane in self._lanes.values() if record.sequence >= lane.next_control.get(writer, 0)]
        if not lanes or not self._is_sequenced(record):
            effects.released.append(offset)
            return
        for lane in lanes:
            self._hold(lane, Held(writer, record.sequence, True, offset))
        if record.kind == "ended":
            yield from self._end(record, writer, offset, effects)
            return
        is_authoritative = writer == self._writers[0]
        # What the lanes say because of the record comes before it, but nothing comes before the start of the call.
        lanes.sort(key=lambda lane: (lane.channel == CALL_CHANNEL) == (record.kind != "started"))
        for lane in lanes:
            if lane.anchor is None:
                lane.anchor = (record.start_sample * lane.rate // record.sample_rate_hz, record.capture_time_ms)
            if lane.state is not None and is_authoritative and record.kind in self._logic.controls:
                outputs: list[Draft] = []
                lane.state = yield from self._run(self._logic.plan(lane.state, record), outputs)
                effects.outputs += [self._stamp(lane, draft) for draft in outputs]
            elif lane.state is None and (is_authoritative or is_own_degraded(record, writer)):
                lane.anchor = (record.start_sample, record.capture_time_ms)
                effects.outputs.append(self._stamp(lane, copy_of(record)))
            lane.next_control[writer] = record.sequence + 1
            lane.is_dirty = True

    def _end(self, record: Any, writer: str, offset: int, effects: Effects) -> Generator[W, R, None]:
        self._ends[writer] = (record, offset)
        if set(self._ends) != set(self._writers):
            return  # not applied yet: after a restart it is read again
        first, _ = self._ends[self._writers[0]]
        for lane in self._lanes.values():
            if lane.state is not None:
                outputs: list[Draft] = []
                lane.state = yield from self._run(self._logic.plan(lane.state, first), outputs)
                effects.outputs += [self._stamp(lane, draft) for draft in outputs]
        control = self._lanes[CALL_CHANNEL]
        control.anchor = (first.start_sample, first.capture_time_ms)
        effects.outputs.append(self._stamp(control, copy_of(first)))
        for lane in self._lanes.values():
            lane.next_control |= {ended_writer: ended.sequence + 1 for ended_writer, (ended, _) in self._ends.items()}
        self.is_ended = True
        self._ended_offset = max(at for _, at in self._ends.values())
        for lane in sorted(self._lanes.values(), key=lambda lane: lane.channel == CALL_CHANNEL):
            lane.released_offset = self._ended_offset
            effects.states.append(self._lane_state(lane, None))
        effects.released += sorted(self._references)
        self._references.clear()

    def _open(self, record: Any) -> None:
        started: Started = record.started
        if not started.channels or [c.channel for c in started.channels] != list(range(len(started.channels))):
            raise PoisonError("a started record lists its channels from 0 without holes")
        for channel in started.channels:
            if channel.sample_rate_hz not in (8000, 16000):
                raise PoisonError(
                    f"channel {channel.channel} has {channel.sample_rate_hz} Hz; 8000 and 16000 are supported"
                )
        lanes = [Lane(channel=channel, started=started) for channel in started.channels]
        states = [self._logic.open(lane) for lane in lanes]
        self._started = started
        self._lanes[CALL_CHANNEL] = LaneEntry(CALL_CHANNEL, control_rate(started))
        for lane, state in zip(lanes, states, strict=True):
            self._lanes[lane.channel.channel] = LaneEntry(
                lane.channel.channel, lane.channel.sample_rate_hz, state, lane
            )

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _writer_of(self, record: Any) -> str:
        writer = record.stage if isinstance(record, CallAnnotation) else self._writers[0]
        if writer not in self._writers:
            raise PoisonError(f"{writer!r} is not a writer of this topic")
        return writer

    def _is_sequenced(self, record: Any) -> bool:
        return bool(record.kind != "tail")

    def _is_repeat(self, record: Any, writer: str) -> bool:
        lane = self._lanes.get(record.channel)
        counts = {} if lane is None else lane.next_control if record.channel == CALL_CHANNEL else lane.next_sequence
        return not self._is_sequenced(record) or record.sequence < counts.get(writer, 0)

    def _stamp(self, lane: LaneEntry[S], draft: Draft) -> Any:
        sequence = lane.output_sequence
        lane.output_sequence += draft.counted
        extra: dict[str, Any] = {"stage": self._stage} if self._writes is CallAnnotation else {}
        return self._writes(
            call_id=self.call_id,
            kind=draft.kind,
            channel=lane.channel,
            sequence=sequence,
            start_sample=draft.start_sample,
            sample_rate_hz=lane.rate,
            capture_time_ms=lane.capture_time_ms(draft.start_sample),
            **extra,
            **draft.body,
        )

    def _hold(self, lane: LaneEntry[S], held: Held) -> None:
        lane.held.append(held)
        self._references[held.offset] = self._references.get(held.offset, 0) + 1

    def _settle(self, effects: Effects) -> None:
        """Record every lane that has moved and can be resumed here; release what no lane needs any more."""
        if self.is_ended:
            return
        for lane in self._lanes.values():
            if not lane.is_dirty:
                continue
            snapshot = None
            if lane.state is not None:
                snapshot = self._logic.snapshot(lane.state)
                if snapshot is None:
                    continue
            waiting = {(writer, ended.sequence) for writer, (ended, _) in self._ends.items()}
            needed = snapshot.needed_sequence if snapshot else None
            kept: deque[Held] = deque()
            for held in lane.held:
                is_needed = (
                    (held.writer, held.sequence) in waiting
                    if held.is_control
                    else needed is not None and held.sequence >= needed
                )
                if is_needed:
                    kept.append(held)
                    continue
                lane.released_offset = max(lane.released_offset, held.offset)
                self._references[held.offset] -= 1
                if not self._references[held.offset]:
                    del self._references[held.offset]
                    effects.released.append(held.offset)
            lane.held = kept
            lane.is_dirty = False
            effects.states.append(self._lane_state(lane, snapshot))

    def _lane_state(self, lane: LaneEntry[S], snapshot: Snapshot | None) -> LaneState:
        needed = snapshot.needed_sequence if snapshot else None
        is_control = lane.channel == CALL_CHANNEL
        return LaneState(
            version=STATE_VERSION,
            call_id=self.call_id,
            channel=lane.channel,
            positions=tuple(
                LanePosition(
                    writer=writer,
                    needed_sequence=lane.next_sequence.get(writer, 0) if needed is None else needed,
                    next_sequence=max(lane.next_sequence.get(writer, 0), lane.done_sequence.get(writer, 0)),
                    next_control=lane.next_control.get(writer, 0),
                )
                for writer in self._writers
            ),
            output_sequence=lane.output_sequence,
            anchor_sample=lane.anchor[0] if lane.anchor else None,
            anchor_time_ms=lane.anchor[1] if lane.anchor else None,
            released_offset=lane.released_offset,
            generation=self._generation,
            ended_offset=self._ended_offset if is_control else None,
            poison_offset=self._poison_offset if is_control else None,
            started=self._started if is_control else None,
            logic=snapshot.data if snapshot else None,
        )

    def _restore(self, restored: Mapping[int, LaneState]) -> None:
        control = restored[CALL_CHANNEL]
        assert control.started is not None
        self._started = control.started
        self._poison_offset = control.poison_offset
        self._ended_offset = control.ended_offset
        self.is_ended = control.ended_offset is not None
        self._lanes[CALL_CHANNEL] = restored_entry(LaneEntry(CALL_CHANNEL, control_rate(control.started)), control)
        for channel in control.started.channels:
            lane = Lane(channel=channel, started=control.started)
            entry: LaneEntry[S] = LaneEntry(channel.channel, channel.sample_rate_hz, None, lane)
            state = restored.get(channel.channel)
            if state is not None:
                restored_entry(entry, state)
            entry.state = (
                self._logic.open(lane) if state is None or state.logic is None else self._restored(lane, state.logic)
            )
            self._lanes[channel.channel] = entry

    def _restored(self, lane: Lane, data: bytes) -> S:
        try:
            return self._logic.restore(lane, data)
        except CodecError as error:
            raise FatalError(f"the changelog holds a {self._stage} state that cannot be read: {error}") from error
