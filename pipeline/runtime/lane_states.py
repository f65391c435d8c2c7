"""The changelog of a stage: a Faust table (in-memory store, compacted topic), written with confirmation.

A worker that stood still may write a state behind a newer one of its successor. The header ``progress`` of every state says how far
it has come, and a restoration takes no step back.

Faust's own table writes go through a buffer whose loss is only logged, and belong to "the current event", which a call's task does
not have. So values are sent to the table's changelog topic directly and confirmed; the table itself restores them after a rebalance.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any, NamedTuple, Protocol

from pipeline.core.entries import STATE_VERSION
from pipeline.core.errors import CallscribeError, FatalError
from pipeline.core.ids import CALL_CHANNEL
from pipeline.runtime.crash_points import reach
from schemas.codec import Codec, CodecError
from schemas.records import LanePosition, LaneState

PROGRESS = "progress"  # header of every state: how far it has come
PROGRESS_FORMAT = struct.Struct(">qqq")
SLICE = 500  # states looked through before other tasks get their turn


class Known(NamedTuple):
    """What a restored control lane says of its call, whose highest released record is at ``offset``.

    Of one that ``is_marked`` only the mark of its end is left.
    """

    partition: int
    call_id: str
    ended_offset: int | None
    is_marked: bool
    feed_state: str
    offset: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a state has come: consumer generation of its writer, records read and written, highest offset released."""

    generation: int
    records: int
    released: int

    @classmethod
    def of(cls, state: LaneState) -> Progress:
        """Return the progress of a state."""
        read = sum(position.next_sequence + position.next_control for position in state.positions)
        return cls(state.generation, read + state.output_sequence, state.released_offset)

    @classmethod
    def parse(cls, headers: Iterable[tuple[str, bytes]] | None) -> Progress | None:
        """Return the progress in a record's headers, None where there is none."""
        value = dict(headers or ()).get(PROGRESS, b"")
        return cls(*PROGRESS_FORMAT.unpack(value)) if len(value) == PROGRESS_FORMAT.size else None

    def to_bytes(self) -> bytes:
        """Return the value of the header."""
        return PROGRESS_FORMAT.pack(*astuple(self))

    def is_stale(self, newest: Progress) -> bool:
        """Return whether a worker that had lost its partitions wrote this behind ``newest``."""
        return (
            self.generation <= newest.generation and self.records < newest.records and self.released <= newest.released
        )


class Confirmed(Protocol):
    """Records that are confirmed together, as `pipeline.runtime.outbox.Burst`."""

    async def put(
        self,
        topic: str,
        *,
        key: bytes,
        value: bytes | None,
        partition: int,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        """Hand over a record."""

    async def delivered(self) -> None:
        """Return when every record is acknowledged."""


class Writing(Protocol):
    """Where states are written, as `pipeline.runtime.outbox.Outbox`."""

    def burst(self) -> Confirmed:
        """Return a new group of records."""


class LaneStates:
    """Lane states by call and channel. ``table`` is the Faust table that restores them, ``topic`` the name of its changelog."""

    def __init__(self, table: Any, topic: str, outbox: Writing, codec: Codec, *, stage: str = "") -> None:
        self._table = table
        self._stage = stage
        self._topic = topic
        self._outbox = outbox
        self._codec = codec
        self._cache: dict[bytes, LaneState] = {}  # what was written since the last rebalance
        self._known: dict[bytes, Known] = {}
        self._marks: dict[bytes, bytes] = {}  # of ended calls: encoded, as they are kept for long and seldom read
        self._newest: dict[bytes, Progress] = {}  # of a restoration
        apply = table.data.apply_changelog_batch
        table.data.apply_changelog_batch = lambda batch, **codecs: self._restore(apply, batch, codecs)

    def forget_cache(self) -> None:
        """Drop what was written: after a rebalance the table is restored from the changelog."""
        self._cache.clear()
        self._marks.clear()
        self._newest.clear()

    def of_call(self, call_id: str) -> dict[int, LaneState]:
        """Return the call's lane states by channel; empty for an unknown call. Raises FatalError on an unreadable one."""
        control = self._get(call_id, CALL_CHANNEL)
        if control is None or (control.started is None and control.ended_offset is None):
            return {}
        states = {CALL_CHANNEL: control}
        for channel in control.started.channels if control.started is not None else ():
            state = self._get(call_id, channel.channel)
            if state is not None:
                states[channel.channel] = state
        return states

    async def record(self, partition: int, states: Iterable[LaneState]) -> None:
        """Write states to the changelog; returns when the broker has acknowledged them all."""
        burst = self._outbox.burst()
        for state in states:
            key = _key(state.call_id, state.channel)
            headers = {PROGRESS: Progress.of(state).to_bytes()}
            await burst.put(self._topic, key=key, value=self._codec.encode(state), partition=partition, headers=headers)
            self._cache[key] = state
        await burst.delivered()

    async def mark_ended(self, partition: int, call_id: str, generation: int) -> None:
        """Delete the states of an ended call but for a mark of its end.

        The control lane, which becomes the mark, is the last one: it is how the others are found.
        """
        states = self.of_call(call_id)
        control = states.pop(CALL_CHANNEL, None)
        if control is None:
            return
        for channel in sorted(states):
            await self._write(partition, _key(call_id, channel), None)
            reach(self._stage, "state_deleted")
        positions = tuple(_highest(position, states.values()) for position in control.positions)
        mark = replace(control, started=None, feed_epochs=(), generation=generation, positions=positions)
        await self._write(partition, _key(call_id, CALL_CHANNEL), mark)

    async def delete(self, partition: int, call_ids: Iterable[str]) -> None:
        """Delete the marks of ended calls."""
        burst = self._outbox.burst()
        keys = [_key(call_id, CALL_CHANNEL) for call_id in call_ids]
        for key in keys:
            await burst.put(self._topic, key=key, value=None, partition=partition)
        await burst.delivered()
        for key in keys:
            self._forget(key)

    async def _write(self, partition: int, key: bytes, state: LaneState | None) -> None:
        """Write a state that is small and seldom read, or delete one; returns when it is acknowledged."""
        value = None if state is None else self._codec.encode(state)
        headers = None if state is None else {PROGRESS: Progress.of(state).to_bytes()}
        burst = self._outbox.burst()
        await burst.put(self._topic, key=key, value=value, partition=partition, headers=headers)
        await burst.delivered()
        self._forget(key)
        if value is not None:
            self._marks[key] = value

    def _forget(self, key: bytes) -> None:
        for kept in (self._cache, self._marks, self._table.data):
            kept.pop(key, None)

    async def load(self) -> None:
        """Look through what was restored, with turns for the rest of the process: there may be marks of a week's calls.

        Raises FatalError when any state is unreadable, or of a newer version.
        """
        self._known.clear()
        partitions = self._table.data._key_partition
        for count, (key, value) in enumerate(list(self._table.data.items()), start=1):
            if value is not None and key in partitions:
                state = self._decode(value)
                if state.channel == CALL_CHANNEL:
                    self._known[key] = Known(
                        partitions[key],
                        state.call_id,
                        state.ended_offset,
                        state.started is None,
                        state.feed_state,
                        state.released_offset,
                    )
            if count % SLICE == 0:
                await asyncio.sleep(0)

    def calls(self) -> Iterable[Known]:
        """Return the calls that were found by `load`, and are in partitions of this worker."""
        return [known for key, known in self._known.items() if key in self._table.data]

    def _restore(self, apply: Callable[..., None], batch: Iterable[Any], codecs: Mapping[str, Any]) -> None:
        """Let the table take in a batch of the changelog, without states that are older than one before them."""
        apply(self._without_stale(batch), **codecs)

    def _without_stale(self, batch: Iterable[Any]) -> Iterator[Any]:
        for event in batch:
            progress = Progress.parse(event.message.headers)
            if progress is not None:
                newest = self._newest.get(event.key) or self._progress_of(event.key)
                if newest is not None and progress.is_stale(newest):
                    continue
                self._newest[event.key] = progress
            yield event

    def _progress_of(self, key: bytes) -> Progress | None:
        """Return how far the state has come that an earlier restoration left in the table."""
        value = self._table.data.get(key)
        with contextlib.suppress(CallscribeError):  # an unreadable one is told when its call is read
            return None if value is None else Progress.of(self._decode(value))
        return None

    def _get(self, call_id: str, channel: int) -> LaneState | None:
        key = _key(call_id, channel)
        if key in self._cache:
            return self._cache[key]
        value = self._marks.get(key) or self._table.data.get(key)
        return None if value is None else self._decode(value)

    def _decode(self, value: bytes) -> LaneState:
        try:
            state = self._codec.decode(value, LaneState)
        except CodecError as error:
            raise FatalError(f"the changelog of this stage holds a value that is no lane state: {error}") from error
        if state.version > STATE_VERSION:
            raise FatalError(
                f"the changelog was written by a newer version (state version {state.version}, this one reads {STATE_VERSION})"
            )
        return state


def _key(call_id: str, channel: int) -> bytes:
    return f"{call_id}/{channel}".encode("ascii")


def _highest(position: LanePosition, states: Iterable[LaneState]) -> LanePosition:
    """Return a position behind that of every lane: what lies below is a repeat in any of them."""
    others = [other for state in states for other in state.positions if other.writer == position.writer]
    highest = max([position.next_sequence, *(other.next_sequence for other in others)])
    return replace(position, needed_sequence=highest, next_sequence=highest)
