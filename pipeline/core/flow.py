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

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Generic, cast

from pipeline.core.contract import Draft, Envelope, FeedLogic, Lane, LaneLogic, R, S, Snapshot, Step, W
from pipeline.core.effects import Effects
from pipeline.core.entries import Held, LaneEntry, agreeing, is_repeat, state_of
from pipeline.core.errors import PoisonError, StaleStateError
from pipeline.core.feeds import INTERRUPTED, LIVE, PAUSED, FeedWatch, Place, idle_record, restored_feeds
from pipeline.core.ids import CALL_CHANNEL
from pipeline.core.losses import Way, degraded, finished, given_up, place_of
from pipeline.core.opening import opened_entries, restored_entries
from pipeline.core.passing import (
    check_control_rate,
    check_lane,
    check_numbers,
    check_reach,
    check_sequence,
    copy_of,
    gap_before,
    is_own_degraded,
    not_started,
)
from schemas.records import CallAnnotation, CallAudio, Degraded, LaneState, Started

MAX_HELD = 64  # a lane without outputs is recorded after this many records, so that their offsets are released


class CallFlow(Generic[S, W, R]):
    """The state of one call in one stage.

    ``restored`` are the call's lane states in the changelog. ``writes`` is the output envelope class, ``writers`` the stages that write
    the input, the first one authoritative for control; ``clocks`` are stages that write to it what only a clock can decide. ``stage``
    names the writer of the outputs. The input was read from ``read_from`` on; ``first_offset`` is its oldest record.
    """

    def __init__(
        self,
        *,
        call_id: str,
        logic: LaneLogic[S, W, R],
        writes: type[Envelope],
        writers: tuple[str, ...],
        stage: str,
        clocks: tuple[str, ...] = (),
        generation: int = 0,
        restored: Mapping[int, LaneState] | None = None,
        read_from: int = 0,
        first_offset: int = 0,
    ) -> None:
        self.call_id = call_id
        self.is_ended = False
        self._logic = logic
        self._writes = writes
        self._writers = writers
        self._clocks = clocks
        self._stage = stage
        self._generation = generation
        self._read_from = read_from
        self._first_offset = first_offset
        self._feeds = FeedWatch()
        self._started: Started | None = None
        self._lanes: dict[int, LaneEntry[S]] = {}
        self._references: dict[int, int] = {}
        self._ends: dict[str, tuple[Envelope, int, tuple[Draft, ...]]] = {}
        self._ended_offset: int | None = None
        if restored and CALL_CHANNEL in restored:
            self._restore(restored)

    # -- input ---------------------------------------------------------------------------------------------------

    def feed(self, record: Any, offset: int) -> Generator[W, R, Effects]:
        """Take in one record at ``offset``; yields work for the engine, expects its result, returns the effects.

        Raises PoisonError when the record can never be used (the flow is then as before, and the runner calls `reject`), StaleStateError
        when the states are older than what was read before: the runner reads again from where it says.
        """
        return self._take(record, offset, Way(self._logic.plan))

    def abandon(self, record: Any, offset: int, *, reason: str, topic: str, partition: int) -> Effects:
        """Take in a record at ``offset`` that ends the process whenever it is processed: nothing is inferred, and the call is degraded.

        Its lane writes what it holds as lost, up to the end of the record, and the next record follows it without a hole. A control
        record takes effect. Raises what `feed` raises.
        """
        body = Degraded(stage=self._stage, reason=reason, topic=topic, partition=partition, offset=offset)
        way = Way(partial(given_up, self._logic), (degraded(body, record.start_sample),))
        return finished(self._take(record, offset, way))

    def _take(self, record: Any, offset: int, way: Way[S, W]) -> Generator[W, R, Effects]:
        effects = Effects()
        writer = self._writer_of(record)
        check_numbers(record)
        if self.is_ended:
            is_late = self._ended_offset is not None and offset > self._ended_offset and writer in self._writers
            if is_late and not is_repeat(record, writer, self._lanes):
                raise PoisonError(
                    f"the call has ended; {record.kind} record {record.sequence} of channel {record.channel} came after"
                )
            effects.drop(offset, is_repeat=record.kind != "tail")
            return effects
        if self._feeds.is_superseded(record, offset):
            effects.drop(offset)
            return effects
        effects.is_heard = True
        if record.channel == CALL_CHANNEL:
            yield from self._feed_control(record, writer, offset, effects, way)
        else:
            yield from self._feed_lane(record, writer, offset, effects, way)
        if self._feeds.hear(record, offset):
            self._lanes[CALL_CHANNEL].is_dirty = True
            if self._clocks and self._feeds.epoch > 1:
                # What an earlier feed sends behind this is void: here the new one begins.
                effects.standing = (LIVE, self._place())
        self._settle(effects)
        return effects

    def reject(self, offset: int, *, reason: str, topic: str, partition: int, record: Any | None = None) -> Effects:
        """Mark the call degraded by an unusable record at ``offset``: where ``record`` says that it belongs, when it could be decoded."""
        if not self._lanes or self.is_ended:
            return Effects(released=[offset])
        lane, start = place_of(record, self._lanes)
        if lane.poison_offset is not None and offset <= lane.poison_offset:
            return Effects(released=[offset])
        effects, lane.poison_offset = Effects(), offset
        body = Degraded(stage=self._stage, reason=reason, topic=topic, partition=partition, offset=offset)
        effects.outputs.append(self._stamp(lane, degraded(body, start)))
        self._hold(lane, Held("", -1, True, offset))  # until the lane's state says that it was said
        lane.is_dirty = True
        self._settle(effects)
        return effects

    @property
    def channels(self) -> Mapping[int, Lane]:
        """Return the lanes by channel."""
        return {channel: lane.lane for channel, lane in self._lanes.items() if lane.lane is not None}

    @property
    def is_quiet(self) -> bool:
        """Return whether the states say all there is to know: nothing is held, and the feed is gone, or the call has not started."""
        return not self._references and (self._started is None or self._feeds.state == INTERRUPTED)

    def idle_record(self, *, is_paused_too: bool) -> CallAudio | None:
        """Return the record that closes a silent feed; None where there is none to close. Paused feeds may be silent.

        One that was closed may have left a lane open for which that was void, as it had heard more.
        """
        states = (LIVE, PAUSED) if is_paused_too else (LIVE,)
        is_open = self._feeds.state in states or (self._feeds.state == INTERRUPTED and bool(self._references))
        if self._started is None or self.is_ended or not is_open or not self._clocks:
            return None
        control, clock = self._lanes[CALL_CHANNEL], self._clocks[0]
        sample, time_ms = control.anchor or (0, 0)
        return idle_record(
            self.call_id,
            epoch=self.feed_epoch,
            stage=clock,
            sequence=control.next_control.get(clock, 0),
            next_sequence=self._counts(),
            place=(sample, control.rate, time_ms),
        )

    @property
    def feed_epoch(self) -> int:
        """Return the epoch of the feed that holds the call."""
        return self._feeds.epoch

    @property
    def started(self) -> Started | None:
        """Return how the call has started; None before it has."""
        return self._started

    # -- lanes ---------------------------------------------------------------------------------------------------

    def _feed_lane(
        self, record: Any, writer: str, offset: int, effects: Effects, way: Way[S, W]
    ) -> Generator[W, R, None]:
        lane = self._lanes.get(record.channel)
        if self._started is None:
            raise not_started(record, self._first_offset)
        check_lane(record, lane, channels=len(self._started.channels))
        assert lane is not None
        expected = lane.next_sequence.get(writer, 0)
        if record.sequence < expected or record.kind == "tail":
            effects.drop(offset, is_repeat=record.kind != "tail")
            return
        check_reach(record, lane.anchor)
        check_sequence(record, expected)
        if record.sequence > expected and lane.unproved_from is not None and lane.unproved_from < self._read_from:
            raise StaleStateError(lane.unproved_from)
        skipped = lane.skipped(offset, has_hole=record.sequence > expected)
        state, outputs = lane.state, list(way.losses)
        assert state is not None
        is_rebuilt = record.sequence < lane.done_sequence.get(writer, 0)
        if record.sequence > expected:
            gap = gap_before(record, lane.sample, is_overtaken=skipped > 0)
            state = yield from self._run(way.plan(state, gap), outputs)
        if record.kind in self._logic.kinds:
            state = yield from self._run(way.plan(state, record), outputs)
        elif writer == self._writers[0] or is_own_degraded(record, writer):
            outputs.append(copy_of(record))
        lane.state = state
        lane.prove()
        lane.anchor = (record.start_sample, record.capture_time_ms)
        lane.next_sequence[writer] = record.sequence + 1
        self._hold(lane, Held(writer, record.sequence, False, offset))
        lane.output_sequence += skipped
        if is_rebuilt:
            return
        self._hear_again(effects)
        effects.outputs += [self._stamp(lane, draft) for draft in outputs]
        lane.is_dirty |= any(draft.counted for draft in outputs) or len(lane.held) >= MAX_HELD

    def _hear_again(self, effects: Effects) -> None:
        """Say that a feed goes on that was thought to be gone; stages without a clock copy what the first one says."""
        if self._clocks and self._feeds.state == INTERRUPTED:
            self._feeds.follow("resumed")
            control = self._lanes[CALL_CHANNEL]
            effects.outputs.append(self._stamp(control, Draft(kind="resumed", start_sample=control.sample)))
            control.is_dirty = True
            effects.standing = (LIVE, self._place())

    def _run(self, step: Step[S, W], outputs: list[Draft]) -> Generator[W, R, S]:
        outputs += step.outputs
        while step.work is not None:
            result = yield step.work
            step = self._logic.apply(step.state, step.work, result)
            outputs += step.outputs
        return step.state

    # -- control -------------------------------------------------------------------------------------------------

    def _feed_control(
        self, record: Any, writer: str, offset: int, effects: Effects, way: Way[S, W]
    ) -> Generator[W, R, None]:
        if self._started is None:
            if record.kind != "started" or record.started is None:
                raise not_started(record, self._first_offset)
            check_control_rate(record, record.started)
            self._lanes, self._started = opened_entries(self._logic, record.started), record.started
        else:
            check_control_rate(record, self._started)
            check_sequence(record, self._lanes[CALL_CHANNEL].next_control.get(writer, 0))
        is_new = bool(self._clocks) and writer == self._writers[0] and self._feeds.is_ended_by(record)
        lanes = [one for one in self._lanes.values() if is_new or record.sequence >= one.next_control.get(writer, 0)]
        if not lanes or record.kind == "tail":
            effects.drop(offset, is_repeat=record.kind != "tail")
            return
        for lane in lanes:
            self._hold(lane, Held(writer, record.sequence, True, offset))
        if record.kind == "ended":
            yield from self._end(record, writer, offset, effects, way)
            return
        if writer in self._clocks:
            lanes = agreeing(record, writer, lanes, self._counts())
        is_authoritative = writer == self._writers[0] or writer in self._clocks
        # What the lanes say because of the record comes before it, but nothing comes before the start of the call.
        lanes.sort(key=lambda lane: (lane.channel == CALL_CHANNEL) == (record.kind != "started"))
        for lane in lanes:
            if lane.anchor is None:
                lane.anchor = (record.start_sample * lane.rate // record.sample_rate_hz, record.capture_time_ms)
            if lane.state is not None and is_authoritative and record.kind in self._logic.controls:
                outputs: list[Draft] = []
                lane.state = yield from self._run(way.plan(lane.state, record), outputs)
                effects.outputs += [self._stamp(lane, draft) for draft in outputs]
            elif lane.state is None:
                drafts = way.losses
                if is_authoritative or is_own_degraded(record, writer):
                    lane.anchor = (record.start_sample, record.capture_time_ms)
                    drafts = (copy_of(record), *drafts) if record.kind == "started" else (*drafts, copy_of(record))
                    self._feeds.follow(record.kind)
                effects.outputs += [self._stamp(lane, draft) for draft in drafts]
            lane.next_control[writer] = record.sequence + 1
            lane.is_dirty = True
        if self._clocks and record.kind == "interrupted" and any(lane.state is None for lane in lanes):
            effects.standing = (INTERRUPTED, self._place())

    def _counts(self) -> dict[int, int]:
        """Return the next sequence of the first writer, by channel."""
        writer = self._writers[0]
        return {lane.channel: lane.counts.get(writer, 0) for lane in self._lanes.values()}

    def _place(self) -> Place:
        """Return where a feed goes on."""
        logic = cast("FeedLogic[S, W, R]", self._logic)  # asked where there is a clock: of a stage that reads feeds
        control = self._lanes[CALL_CHANNEL]
        ends = {  # of a paused feed the control lane is further than the audio
            lane.channel: max(logic.read_to(lane.state), -(-control.sample * lane.rate // control.rate))
            for lane in self._lanes.values()
            if lane.state is not None
        }
        return Place(next_sequence=self._counts(), end_samples=ends)

    def _end(self, record: Any, writer: str, offset: int, effects: Effects, way: Way[S, W]) -> Generator[W, R, None]:
        self._ends[writer] = (record, offset, way.losses)
        if set(self._ends) != set(self._writers):
            return  # not applied yet: after a restart it is read again
        first = self._ends[self._writers[0]][0]
        ended_offset = max(at for _, at, _ in self._ends.values())
        for lane in self._lanes.values():
            if lane.state is not None and lane.released_offset != ended_offset:  # else it ended before a restart
                outputs: list[Draft] = []
                lane.state = yield from self._run(way.plan(lane.state, first), outputs)
                effects.outputs += [self._stamp(lane, draft) for draft in outputs]
        control = self._lanes[CALL_CHANNEL]
        control.anchor = (first.start_sample, first.capture_time_ms)
        losses = [draft for *_, own in self._ends.values() for draft in own]
        effects.outputs += [self._stamp(control, draft) for draft in (*losses, copy_of(first))]
        for name, (ended, *_) in self._ends.items():
            control.next_sequence[name] = max(lane.next_sequence.get(name, 0) for lane in self._lanes.values())
            for lane in self._lanes.values():
                lane.next_control[name] = max(lane.next_control.get(name, 0), ended.sequence + 1)
        self.is_ended, self._ended_offset = True, ended_offset
        effects.standing = ("complete", self._place()) if self._clocks else None
        for lane in sorted(self._lanes.values(), key=lambda lane: lane.channel == CALL_CHANNEL):
            lane.released_offset = ended_offset
            effects.states.append(self._lane_state(lane, None))
        effects.released += sorted(self._references)
        self._references.clear()

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _writer_of(self, record: Any) -> str:
        writer = getattr(record, "stage", self._writers[0])
        if writer not in self._writers and not (writer in self._clocks and record.kind == "interrupted"):
            raise PoisonError(f"{writer!r} is not a writer of this topic")
        return writer

    def _stamp(self, lane: LaneEntry[S], draft: Draft) -> Any:
        extra: dict[str, Any] = {"stage": self._stage} if self._writes is CallAnnotation else {}
        return self._writes(**lane.envelope(draft), call_id=self.call_id, **extra, **draft.body)

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
            snapshot = None if lane.state is None else self._logic.snapshot(lane.state)
            if snapshot is None and lane.state is not None:
                continue
            waiting = {(writer, ended.sequence) for writer, (ended, *_) in self._ends.items()}
            for held in lane.let_go(snapshot.needed_sequence if snapshot else None, waiting):
                self._references[held.offset] -= 1
                if not self._references[held.offset]:
                    del self._references[held.offset]
                    effects.released.append(held.offset)
            lane.is_dirty = False
            effects.states.append(self._lane_state(lane, snapshot))

    def _lane_state(self, lane: LaneEntry[S], snapshot: Snapshot | None) -> LaneState:
        state = state_of(lane, snapshot, self.call_id, (*self._writers, *self._clocks), self._generation)
        if lane.channel != CALL_CHANNEL:
            return state
        return replace(
            state,
            ended_offset=self._ended_offset,
            feed_epochs=tuple(self._feeds.epochs),
            feed_state=self._feeds.state,
            started=self._started,
        )

    def _restore(self, restored: Mapping[int, LaneState]) -> None:
        control = restored[CALL_CHANNEL]
        self._started = control.started
        self._ended_offset = control.ended_offset
        self.is_ended = control.ended_offset is not None
        self._feeds = restored_feeds(control.feed_epochs, control.feed_state)
        self._lanes = restored_entries(self._logic, restored, self._stage, self._first_offset)
