"""What a flow keeps of one lane: its place in the input and the output, and the logic's state."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from pipeline.core.contract import Draft, FeedLogic, Lane, LaneLogic, R, S, Snapshot, W
from pipeline.core.errors import FatalError, PoisonError
from pipeline.core.feeds import Place, has_seen, idle_record
from pipeline.core.ids import CALL_CHANNEL
from schemas.codec import CodecError, upgraded_plain
from schemas.records import CallAudio, LanePosition, LaneState

OVERTAKEN = 1_000_000  # more outputs than can follow a state before the next one
STATE_VERSION = 2  # a state of version n holds the stage's part as release n wrote it (schemas/released/n)


@dataclass(slots=True)
class Held:
    """An input record a lane may still need after a restart."""

    writer: str
    sequence: int
    is_control: bool
    offset: int


@dataclass(slots=True)
class LaneEntry(Generic[S]):
    """One channel of the call, or the call's control lane (``state`` None)."""

    channel: int
    rate: int
    state: S | None = None
    lane: Lane | None = None
    next_sequence: dict[str, int] = field(default_factory=dict)
    done_sequence: dict[str, int] = field(default_factory=dict)  # after a restart: what lies below rebuilds buffers
    next_control: dict[str, int] = field(default_factory=dict)
    output_sequence: int = 0
    held: deque[Held] = field(default_factory=deque)
    anchor: tuple[int, int] | None = None  # (sample, ms since the epoch)
    resumed: tuple[int, int] | None = None  # the anchor of the state that the lane was restored from
    released_offset: int = -1
    poison_offset: int | None = None  # the highest one of which the lane has said that it was rejected
    unproved_from: int | None = None  # after a restart, until a record follows the state: where to read when none does
    overtaken: set[str] = field(default_factory=set)  # writers whose next record may come behind deleted ones
    is_dirty: bool = False
    has_ended: bool = False  # after a restart in the middle of recording the end of the call

    @property
    def counts(self) -> dict[str, int]:
        """Return the next sequence of the lane's own channel, by writer."""
        return self.next_control if self.channel == CALL_CHANNEL else self.next_sequence

    @property
    def begin(self) -> int:
        """Return the sample at which the channel begins."""
        return self.lane.channel.offset_samples if self.lane is not None else 0

    @property
    def sample(self) -> int:
        """Return the sample of the lane's last input record; where it has heard nothing, that at which the channel begins."""
        return self.begin if self.anchor is None else max(self.begin, self.anchor[0])

    def capture_time_ms(self, sample: int) -> int:
        """Return when ``sample`` was captured, by the lane's last input record; ms since the epoch, 0 when unknown."""
        if self.anchor is None:
            return 0
        return max(0, self.anchor[1] + (sample - self.anchor[0]) * 1000 // self.rate)

    def envelope(self, draft: Draft) -> dict[str, Any]:
        """Return the lane's fields of the envelope of its next output, and count it."""
        sequence = self.output_sequence
        self.output_sequence += draft.counted
        return {
            "kind": draft.kind,
            "channel": self.channel,
            "sequence": sequence,
            "start_sample": draft.start_sample,
            "sample_rate_hz": self.rate,
            "capture_time_ms": self.capture_time_ms(draft.start_sample),
        }

    def overtake(self, writer: str, offset: int) -> None:
        """Note that what ``writer`` has written before ``offset`` was deleted, and nothing of it was read."""
        self.overtaken.add(writer)
        if not self.held:  # nothing up to here need be read again
            self.released_offset = max(self.released_offset, offset)

    def skipped(self, writer: str, offset: int, *, has_hole: bool) -> int:
        """Return how many outputs are skipped because of a hole before the writer's next record, which is at ``offset``.

        Where records that the state needed were deleted, outputs behind the state had been written from them. Their sequences must not
        be used again for others. What is new below where the state stands is in another log: the topic was deleted and made again.
        """
        if not has_hole:
            return 0
        is_another_log = self.unproved_from is not None and offset < self.unproved_from
        return OVERTAKEN if is_another_log or writer in self.overtaken else 0

    def hear(self, record: Any, writer: str) -> None:
        """Note that a record of the channel was taken in. What rebuilds buffers leads back to where the state stood."""
        is_rebuilt = record.sequence + 1 == self.done_sequence.get(writer, 0)
        self.anchor = self.resumed if is_rebuilt else (record.start_sample, record.capture_time_ms)
        self.next_sequence[writer] = record.sequence + 1
        self.prove(writer)

    def prove(self, writer: str) -> None:
        """Note that a record of the channel came behind the state, and was used."""
        self.unproved_from = None
        self.overtaken.discard(writer)

    def let_go(self, snapshot: Snapshot | None, waiting: Container[tuple[str, int]]) -> list[Held]:
        """Return what the lane does not need any more, and forget it.

        Needed are records of the channel that ``snapshot`` needs, and control records (writer, sequence) that are ``waiting`` to be
        applied.
        """
        kept: deque[Held] = deque()
        gone = []
        for held in self.held:
            needed = snapshot.needed_of(held.writer) if snapshot else None
            is_own_needed = needed is not None and held.sequence >= needed
            is_needed = (held.writer, held.sequence) in waiting if held.is_control else is_own_needed
            if is_needed:
                kept.append(held)
            else:
                gone.append(held)
                self.released_offset = max(self.released_offset, held.offset)
        self.held = kept
        return gone


def state_of(
    lane: LaneEntry[S], snapshot: Snapshot | None, call_id: str, writers: tuple[str, ...], generation: int
) -> LaneState:
    """Return what a restart needs of the lane; ``snapshot`` is the logic's part, None in the control lane."""
    needed = {writer: snapshot.needed_of(writer) if snapshot else None for writer in writers}
    return LaneState(
        version=STATE_VERSION,
        call_id=call_id,
        channel=lane.channel,
        positions=tuple(
            LanePosition(
                writer=writer,
                needed_sequence=lane.next_sequence.get(writer, 0) if (first := needed[writer]) is None else first,
                next_sequence=max(lane.next_sequence.get(writer, 0), lane.done_sequence.get(writer, 0)),
                next_control=lane.next_control.get(writer, 0),
                is_overtaken=writer in lane.overtaken,
            )
            for writer in writers
        ),
        output_sequence=lane.output_sequence,
        anchor_sample=lane.anchor[0] if lane.anchor else None,
        anchor_time_ms=lane.anchor[1] if lane.anchor else None,
        released_offset=lane.released_offset,
        poison_offset=lane.poison_offset,
        needed_offset=lane.held[0].offset if lane.held else lane.released_offset + 1,
        generation=generation,
        logic=snapshot.data if snapshot else None,
    )


def agreeing(record: Any, writer: str, lanes: Iterable[LaneEntry[S]], counts: Mapping[int, int]) -> list[LaneEntry[S]]:
    """Return the lanes that have read what a clock's decision had seen; for the others it is void, and they have read it.

    ``counts`` are the next sequences of the first writer, by channel.
    """
    found = []
    for lane in lanes:
        if has_seen(record, lane.channel, counts[lane.channel]):
            found.append(lane)
        else:
            lane.next_control[writer] = record.sequence + 1
            lane.is_dirty = True
    return found


def check_repeat(record: Any, writer: str, lanes: Mapping[int, LaneEntry[S]]) -> None:
    """Refuse a record that a call which has ended had not read. Raises PoisonError.

    The control lane stands for lanes of which nothing is left.
    """
    control = lanes[CALL_CHANNEL]
    count = control.next_control.get(writer, 0)
    if record.channel != CALL_CHANNEL:
        lane = lanes.get(record.channel, control)
        count = max(lane.next_sequence.get(writer, 0), control.next_sequence.get(writer, 0))
    if record.kind != "tail" and record.sequence >= count:
        raise PoisonError(
            f"the call has ended; {record.kind} record {record.sequence} of channel {record.channel} came after"
        )


def logic_of(state: LaneState, stage: str) -> bytes:
    """Return the logic's part of a state as today's version of the stage would have written it. Raises CodecError."""
    data = state.logic or b""
    if state.version == STATE_VERSION:
        return data
    return upgraded_plain(data, f"{stage.capitalize()}Lane", state.version)


def opened(logic: LaneLogic[S, W, R], lane: Lane, state: LaneState | None, stage: str) -> S:
    """Return the logic's state of a lane: as it was recorded, or new. Raises FatalError where the record cannot be read."""
    if state is None or state.logic is None:
        return logic.open(lane)
    try:
        return logic.restore(lane, logic_of(state, stage))
    except CodecError as error:
        raise FatalError(f"the changelog holds a {stage} state that cannot be read: {error}") from error


def standing_place(logic: FeedLogic[S, W, R], lanes: Mapping[int, LaneEntry[S]], writer: str) -> Place:
    """Return where a feed goes on."""
    control = lanes[CALL_CHANNEL]
    ends = {  # of a paused feed the control lane is further than the audio
        lane.channel: max(logic.read_to(lane.state), -(-control.sample * lane.rate // control.rate))
        for lane in lanes.values()
        if lane.state is not None
    }
    return Place(next_sequence=counts_of(lanes, writer), end_samples=ends)


def counts_of(lanes: Mapping[int, LaneEntry[S]], writer: str) -> dict[int, int]:
    """Return the next sequence of a writer, by channel."""
    return {lane.channel: lane.counts.get(writer, 0) for lane in lanes.values()}


def restored_entry(
    lane: LaneEntry[S], state: LaneState | None, first_offset: int, writers: Sequence[str]
) -> LaneEntry[S]:
    """Return ``lane`` standing where the recorded state stands; ``first_offset`` is the oldest record of the input."""
    if state is None:
        lane.overtaken = set(writers) if first_offset > 0 else set()
        return lane
    lane.next_sequence = {position.writer: position.needed_sequence for position in state.positions}
    lane.done_sequence = {position.writer: position.next_sequence for position in state.positions}
    lane.next_control = {position.writer: position.next_control for position in state.positions}
    lane.output_sequence = state.output_sequence
    lane.released_offset = state.released_offset
    lane.poison_offset = state.poison_offset
    lane.has_ended = state.logic is None and lane.channel != CALL_CHANNEL
    needed = state.needed_offset if state.needed_offset >= 0 else state.released_offset + 1
    lane.unproved_from = max(needed, first_offset)
    lane.overtaken = {one.writer for one in state.positions if one.is_overtaken or needed < first_offset}
    if state.anchor_sample is not None and state.anchor_time_ms is not None:
        lane.anchor = lane.resumed = (state.anchor_sample, state.anchor_time_ms)
    return lane


def silence_of(lanes: Mapping[int, LaneEntry[S]], call_id: str, epoch: int, *, clock: str, writer: str) -> CallAudio:
    """Return the record by which ``clock`` says that the feed of ``epoch`` is silent: nothing more came of ``writer``."""
    control = lanes[CALL_CHANNEL]
    sample, time_ms = control.anchor or (0, 0)
    return idle_record(
        call_id,
        epoch=epoch,
        stage=clock,
        sequence=control.next_control.get(clock, 0),
        next_sequence=counts_of(lanes, writer),
        place=(sample, control.rate, time_ms),
    )
