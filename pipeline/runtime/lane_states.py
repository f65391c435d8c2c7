"""The changelog of a stage: a Faust table (in-memory store, compacted topic), written with confirmation.

Faust's own table writes go through a buffer whose loss is only logged, and belong to "the current event", which a call's task does
not have. So values are sent to the table's changelog topic directly and confirmed; the table itself restores them after a rebalance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from pipeline.core.errors import FatalError
from pipeline.core.flow import STATE_VERSION
from pipeline.core.ids import CALL_CHANNEL
from schemas.codec import Codec, CodecError
from schemas.records import LaneState


class Confirmed(Protocol):
    """Records that are confirmed together, as `pipeline.runtime.outbox.Burst`."""

    async def put(self, topic: str, *, key: bytes, value: bytes | None, partition: int) -> None:
        """Hand over a record."""

    async def delivered(self) -> None:
        """Return when every record is acknowledged."""


class Writing(Protocol):
    """Where states are written, as `pipeline.runtime.outbox.Outbox`."""

    def burst(self) -> Confirmed:
        """Return a new group of records."""


class LaneStates:
    """Lane states by call and channel. ``table`` is the Faust table that restores them, ``topic`` the name of its changelog."""

    def __init__(self, table: Any, topic: str, outbox: Writing, codec: Codec) -> None:
        self._table = table
        self._topic = topic
        self._outbox = outbox
        self._codec = codec
        self._cache: dict[bytes, LaneState] = {}  # what was written since the last rebalance

    def forget_cache(self) -> None:
        """Drop what was written: after a rebalance the table is restored from the changelog."""
        self._cache.clear()

    def of_call(self, call_id: str) -> dict[int, LaneState]:
        """Return the call's lane states by channel; empty for an unknown call. Raises FatalError on an unreadable one."""
        control = self._get(call_id, CALL_CHANNEL)
        if control is None or control.started is None:
            return {}
        states = {CALL_CHANNEL: control}
        for channel in control.started.channels:
            state = self._get(call_id, channel.channel)
            if state is not None:
                states[channel.channel] = state
        return states

    async def record(self, partition: int, states: Iterable[LaneState]) -> None:
        """Write states to the changelog; returns when the broker has acknowledged them all."""
        burst = self._outbox.burst()
        for state in states:
            key = _key(state.call_id, state.channel)
            await burst.put(self._topic, key=key, value=self._codec.encode(state), partition=partition)
            self._cache[key] = state
        await burst.delivered()

    async def delete(self, partition: int, call_id: str) -> None:
        """Write tombstones for every lane of a call, the control lane last: it is how the others are found."""
        for channel in sorted(self.of_call(call_id), reverse=True):
            key = _key(call_id, channel)
            burst = self._outbox.burst()
            await burst.put(self._topic, key=key, value=None, partition=partition)
            await burst.delivered()
            self._cache.pop(key, None)
            self._table.data.pop(key, None)

    def ended(self) -> Iterable[tuple[int, str, int]]:
        """Yield (partition, call_id, ended_offset) of every restored call that has ended."""
        partitions = self._table.data._key_partition
        for key, value in list(self._table.data.items()):
            if key.endswith(b"/-1") and value is not None and key in partitions:
                state = self._decode(value)
                if state.ended_offset is not None:
                    yield partitions[key], state.call_id, state.ended_offset

    def _get(self, call_id: str, channel: int) -> LaneState | None:
        key = _key(call_id, channel)
        if key in self._cache:
            return self._cache[key]
        value = self._table.data.get(key)
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
