"""What one call has come to in one stage: its lanes, the records that they may need again, and what a restart needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic

from pipeline.core.contract import Draft, Envelope, Lane, LaneLogic, R, S, Snapshot, W
from pipeline.core.effects import Effects
from pipeline.core.entries import Held, LaneEntry, state_of
from pipeline.core.feeds import INTERRUPTED, FeedWatch, restored_feeds
from pipeline.core.ids import CALL_CHANNEL
from pipeline.core.opening import restored_entries
from schemas.records import CallAnnotation, LaneState, Started


class CallBook(Generic[S, W, R]):
    """The books of one call in one stage.

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
        self._unsaid: list[Any] = []  # outputs of a start that was made up, until the effects of a record are returned
        if restored and CALL_CHANNEL in restored:
            self._restore(restored)

    @property
    def channels(self) -> Mapping[int, Lane]:
        """Return the lanes by channel."""
        return {channel: lane.lane for channel, lane in self._lanes.items() if lane.lane is not None}

    @property
    def is_quiet(self) -> bool:
        """Return whether the states say all there is to know: nothing is held, and the feed is gone, or the call has not started."""
        return not self._references and (self._started is None or self._feeds.state == INTERRUPTED)

    @property
    def feed_epoch(self) -> int:
        """Return the epoch of the feed that holds the call."""
        return self._feeds.epoch

    @property
    def started(self) -> Started | None:
        """Return how the call has started; None before it has."""
        return self._started

    def _stamp(self, lane: LaneEntry[S], draft: Draft) -> Any:
        extra: dict[str, Any] = {"stage": self._stage} if self._writes is CallAnnotation else {}
        return self._writes(**lane.envelope(draft), call_id=self.call_id, **extra, **draft.body)

    def _hold(self, lane: LaneEntry[S], held: Held) -> None:
        lane.held.append(held)
        self._references[held.offset] = self._references.get(held.offset, 0) + 1

    def _settle(self, effects: Effects) -> None:
        """Record every lane that has moved and can be resumed here; release what no lane needs any more."""
        effects.outputs, self._unsaid = [*self._unsaid, *effects.outputs], []
        if self.is_ended:
            return
        for lane in self._lanes.values():
            if not lane.is_dirty:
                continue
            snapshot = None if lane.state is None else self._logic.snapshot(lane.state)
            if snapshot is None and lane.state is not None:
                continue
            waiting = {(writer, ended.sequence) for writer, (ended, *_) in self._ends.items()}
            for held in lane.let_go(snapshot, waiting):
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
        self._lanes = restored_entries(
            self._logic, restored, stage=self._stage, first_offset=self._first_offset, writers=self._writers
        )
