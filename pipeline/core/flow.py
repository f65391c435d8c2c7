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
from functools import partial
from typing import Any, cast

from pipeline.core.book import CallBook
from pipeline.core.contract import Draft, FeedLogic, R, S, W
from pipeline.core.effects import Effects
from pipeline.core.entries import (
    OVERTAKEN,
    Held,
    LaneEntry,
    agreeing,
    check_repeat,
    counts_of,
    silence_of,
    standing_place,
)
from pipeline.core.errors import StaleStateError
from pipeline.core.feeds import INTERRUPTED, LIVE, PAUSED, Place
from pipeline.core.ids import CALL_CHANNEL
from pipeline.core.losses import Way, degraded, finished, given_up, place_of
from pipeline.core.opening import opened_entries
from pipeline.core.passing import (
    check_control_rate,
    check_lane,
    check_numbers,
    check_reach,
    check_sequence,
    copy_of,
    end_for,
    gap_before,
    gap_to_end,
    is_own_degraded,
    is_start,
    not_started,
    start_before,
    writer_of,
)
from schemas.records import CallAudio, Degraded, Started

MAX_HELD = 64  # a lane without outputs is recorded after this many records, so that their offsets are released


class CallFlow(CallBook[S, W, R]):
    """The state of one call in one stage; see `CallBook` for what it is made with."""

    # -- input ---------------------------------------------------------------------------------------------------

    def lacks_start(self, record: Any) -> bool:
        """Return whether ``record`` comes behind the start of its call, and that may have been deleted before it was read."""
        return self._started is None and not self.is_ended and self._first_offset > 0 and not is_start(record)

    def feed(self, record: Any, offset: int, known: Started | None = None) -> Generator[W, R, Effects]:
        """Take in one record at ``offset``; yields work for the engine, expects its result, returns the effects.

        ``known`` is how a call that `lacks_start` has started, as far as anybody knows.

        Raises PoisonError when the record can never be used (the flow is then as before, and the runner calls `reject`), StaleStateError
        when the states are older than what was read before: the runner reads again from where it says.
        """
        return self._take(record, offset, Way(self._logic.plan, self._logic.apply), known)

    def abandon(
        self, record: Any, offset: int, known: Started | None = None, *, reason: str, topic: str, partition: int
    ) -> Effects:
        """Take in a record at ``offset`` that ends the process whenever it is processed: nothing is inferred, and the call is degraded.

        Its lane writes what it holds as lost, up to the end of the record, and the next record follows it without a hole. A control
        record takes effect. Raises what `feed` raises.
        """
        body = Degraded(stage=self._stage, reason=reason, topic=topic, partition=partition, offset=offset)
        way = Way(partial(given_up, self._logic), self._logic.apply, (degraded(body, record.start_sample),))
        return finished(self._take(record, offset, way, known))

    def _take(self, record: Any, offset: int, way: Way[S, W, R], known: Started | None) -> Generator[W, R, Effects]:
        effects = Effects()
        writer = writer_of(record, self._writers, self._clocks)
        check_numbers(record)
        if self.is_ended:
            if self._ended_offset is not None and offset > self._ended_offset and writer in self._writers:
                check_repeat(record, writer, self._lanes)
            effects.drop(offset, is_repeat=record.kind != "tail")
            if self._clocks and self._feeds.hear(record, offset):  # who took the call when its end was on its way
                effects.standing = ("complete", self._place())
            return effects
        if self._feeds.is_superseded(record, offset):
            effects.drop(offset)
            return effects
        effects.is_heard = True
        if self._first_offset > 0 and not is_start(record):
            yield from self._make_up_start(record, writer, offset, known)
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

    def end_unheard(
        self, reads: type[Any], offset: int, *, end_samples: Mapping[int, int], reason: str, epoch: int = 0
    ) -> Generator[W, R, Effects]:
        """End the call, all records of which were deleted that the stage has not read, its end among them; ``offset`` is below the rest.

        ``reads`` is the envelope of the stage's input, ``end_samples`` the end of the audio by leg, ``epoch`` the feed's that held the
        call at last. What is missing is a gap. Nothing happens to a call that has not started here, or has ended.
        """
        effects = Effects()
        if self._started is None or self.is_ended:
            return effects
        self._feeds.give(epoch, offset)
        read = self._place().end_samples if self._clocks else {}
        for lane in self._lanes.values():
            is_whole = lane.channel in read and end_samples.get(lane.channel, 0) <= read[lane.channel]
            lane.overtaken = set() if is_whole else set(self._writers)
        way = Way(self._logic.plan, self._logic.apply)
        for writer in [one for one in self._writers if one not in self._ends]:
            ended = end_for(writer, reads, self.call_id, self._lanes, end_samples=end_samples, reason=reason)
            yield from self._make_up_start(ended, writer, offset, None)
            yield from self._end(ended, writer, offset, effects, way)
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

    def idle_record(self, *, is_paused_too: bool) -> CallAudio | None:
        """Return the record that closes a silent feed; None where there is none to close. Paused feeds may be silent.

        One that was closed may have left a lane open for which that was void, as it had heard more.
        """
        states = (LIVE, PAUSED) if is_paused_too else (LIVE,)
        is_open = self._feeds.state in states or (self._feeds.state == INTERRUPTED and bool(self._references))
        if self._started is None or self.is_ended or not is_open or not self._clocks:
            return None
        return silence_of(self._lanes, self.call_id, self.feed_epoch, clock=self._clocks[0], writer=self._writers[0])

    # -- lanes ---------------------------------------------------------------------------------------------------

    def _feed_lane(
        self, record: Any, writer: str, offset: int, effects: Effects, way: Way[S, W, R]
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
        skipped = lane.skipped(writer, offset, has_hole=record.sequence > expected)
        state, outputs = lane.state, list(way.losses)
        assert state is not None
        is_rebuilt = record.sequence < lane.done_sequence.get(writer, 0)
        if record.sequence > expected:
            start = lane.begin if skipped and not expected else lane.sample
            gap = gap_before(record, start, is_overtaken=skipped > 0)
            state = yield from way.take(state, gap, outputs)
        if record.kind in self._logic.kinds:
            state = yield from way.take(state, record, outputs)
        elif writer == self._writers[0] or is_own_degraded(record, writer):
            outputs.append(copy_of(record))
        lane.state = state
        lane.hear(record, writer)
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

    # -- control -------------------------------------------------------------------------------------------------

    def _feed_control(
        self, record: Any, writer: str, offset: int, effects: Effects, way: Way[S, W, R]
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
            lanes = agreeing(record, writer, lanes, counts_of(self._lanes, self._writers[0]))
        yield from self._apply(record, writer, lanes, effects, way)
        if self._clocks and record.kind == "interrupted" and any(lane.state is None for lane in lanes):
            effects.standing = (INTERRUPTED, self._place())

    def _apply(
        self, record: Any, writer: str, lanes: list[LaneEntry[S]], effects: Effects, way: Way[S, W, R]
    ) -> Generator[W, R, None]:
        is_authoritative = writer == self._writers[0] or writer in self._clocks
        # What the lanes say because of the record comes before it, but nothing comes before the start of the call.
        lanes.sort(key=lambda lane: (lane.channel == CALL_CHANNEL) == (record.kind != "started"))
        for lane in lanes:
            if lane.anchor is None:
                lane.anchor = (record.start_sample * lane.rate // record.sample_rate_hz, record.capture_time_ms)
            if lane.state is not None and is_authoritative and record.kind in self._logic.controls:
                outputs: list[Draft] = []
                lane.state = yield from way.take(lane.state, record, outputs)
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

    def _make_up_start(self, record: Any, writer: str, offset: int, known: Started | None) -> Generator[W, R, None]:
        """Do what the writer's start would have done, which was deleted before it was read."""
        if self._started is None and known is not None:
            self._lanes, self._started = opened_entries(self._logic, known), known
        writer = writer if writer in self._writers else self._writers[0]
        lanes = [lane for lane in self._lanes.values() if not lane.next_control.get(writer, 0)]
        if self._started is None or not lanes:
            return
        effects = Effects()
        yield from self._apply(
            start_before(record, self._started), writer, lanes, effects, Way(self._logic.plan, self._logic.apply)
        )
        self._unsaid += effects.outputs
        for lane in lanes:
            lane.overtake(writer, offset)
            if (
                lane.channel == CALL_CHANNEL and writer == self._writers[0]
            ):  # others may have followed it, as behind a gap
                lane.output_sequence += OVERTAKEN

    def _place(self) -> Place:
        logic = cast("FeedLogic[S, W, R]", self._logic)  # asked where there is a clock: of a stage that reads feeds
        return standing_place(logic, self._lanes, self._writers[0])

    def _end(self, record: Any, writer: str, offset: int, effects: Effects, way: Way[S, W, R]) -> Generator[W, R, None]:
        self._ends[writer] = (record, offset, way.losses)
        if set(self._ends) != set(self._writers):
            return  # not applied yet: after a restart it is read again
        first = self._ends[self._writers[0]][0]
        ended_offset = max(at for _, at, _ in self._ends.values())
        for lane in self._lanes.values():
            if lane.state is not None and not lane.has_ended:
                outputs: list[Draft] = []
                gap = gap_to_end(first, lane, self._writers[0])
                if gap is not None:
                    lane.state = yield from way.take(lane.state, gap, outputs)
                    if any(draft.kind == "gap" for draft in outputs):  # else the lane had read it all
                        lane.output_sequence += OVERTAKEN
                lane.state = yield from way.take(lane.state, first, outputs)
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
