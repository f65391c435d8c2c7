"""Calls of which a worker hears nothing: feeds that have gone silent, and ends that were deleted before they were read.

What was read to its end is silent; a feed that is silent for long is closed. Where call.state says that the call is complete and
nothing more is there to read, its end is lost: it is ended here, and what is missing of it is a gap. So is an interrupted call that
nobody has resumed for as long as its topic keeps records. Else every stage would keep its state for ever, customers' words included.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from pipeline.core.feeds import INTERRUPTED
from pipeline.runtime.call_state import Standing, place_of, read_standings
from pipeline.runtime.carrying import Carrier
from pipeline.runtime.idle import Silence
from pipeline.runtime.lane_states import Known
from pipeline.runtime.lookups import aside
from pipeline.runtime.positions import Positions
from pipeline.runtime.served import Ending, ServedCall
from pipeline.runtime.settings import Settings
from schemas.records import CallAudio

log = logging.getLogger("callscribe.worker")

Calls = list[tuple[str, int]]  # with their partitions
Held = Mapping[int, tuple[int, int]]  # the offsets (first, end) that the input holds, by partition


class Unheard:
    """What a worker knows of calls that have not ended.

    ``call_of`` gives a call its place in the worker, ``end`` hands its end to it. ``next_of`` says which offset of a partition comes
    next. ``is_over`` says that a generation is, and nothing may be written. Only a stage that ``has_clock`` closes feeds.
    """

    def __init__(
        self,
        settings: Settings,
        positions: Positions,
        carrier: Carrier,
        *,
        has_clock: bool,
        call_of: Callable[[str, int], ServedCall],
        end: Callable[[ServedCall, Ending], None],
        next_of: Callable[[int], int | None],
        is_over: Callable[[int], bool],
    ) -> None:
        self._settings = settings
        self._positions = positions
        self._carrier = carrier
        self._has_clock = has_clock
        self._call_of = call_of
        self._end = end
        self._next_of = next_of
        self._is_over = is_over
        self._silence = Silence()
        self._last: dict[str, tuple[int, int]] = {}  # partition, and offset of the last record that was heard
        self._awake: dict[str, int] = {}  # partition of those whose feed may speak
        self._held: Held = {}  # at the sweep before

    @property
    def has_any(self) -> bool:
        """Return whether there are calls that have not ended."""
        return bool(self._last)

    def clear(self) -> None:
        """Forget everything of a generation."""
        self._last.clear()
        self._awake.clear()
        self._held = {}

    def restart(self, calls: Iterable[Known] = ()) -> None:
        """Begin to listen anew: to other partitions with these calls, or behind a broker that was away."""
        self._silence.restart()
        for known in calls:
            if known.ended_offset is None:
                self._last[known.call_id] = known.partition, known.offset
                if known.feed_state != INTERRUPTED:
                    self._awake[known.call_id] = known.partition

    def hear(self, call: ServedCall, offset: int, *, is_heard: bool) -> None:
        """Note what was read of a call, up to ``offset``; ``is_heard`` says that its feed has spoken."""
        if call.flow.is_ended or call.flow.started is None:
            self._last.pop(call.call_id, None)
            self._awake.pop(call.call_id, None)
            self._silence.forget(call.call_id)
            return
        self._last[call.call_id] = call.partition, offset
        if is_heard:
            self._silence.hear(call.call_id)
        if call.flow.is_quiet:
            self._awake.pop(call.call_id, None)
            self._silence.forget(call.call_id)
        else:
            self._awake[call.call_id] = call.partition

    # -- silent feeds ----------------------------------------------------------------------------------------------

    async def close_silent(self, generation: int) -> None:
        """Write for every call that was silent for too long that its feed is gone; end those that are known to be complete."""
        if not self._has_clock or not self._awake:
            return
        # What came since the sweep before may still be on its way here; a decision that has missed something is void.
        held, self._held = self._held, await self._positions.held()
        silent = [
            (call_id, partition)
            for call_id, partition in self._awake.items()
            if self._silence.seconds(call_id) >= self._settings.ingest.idle_seconds and self._has_read(partition, held)
        ]
        gone = [(call_id, partition) for call_id, partition in silent if self._closing(call_id, partition) is not None]
        complete = await self._end_those(generation, gone, self._is_complete)
        for call_id, partition in gone:
            record = None if call_id in complete or call_id not in self._awake else self._closing(call_id, partition)
            if record is None:
                continue
            if self._is_over(generation):
                return
            log.warning(
                "a feed is silent", extra={"call_id": call_id, "seconds": round(self._silence.seconds(call_id))}
            )
            self._silence.hear(call_id)
            await self._carrier.write_input(record, partition)

    def _closing(self, call_id: str, partition: int) -> CallAudio | None:
        """Return the record that closes the feed of a silent call; None where there is none to close. A paused one may be silent."""
        call = self._call_of(call_id, partition)
        is_long = self._silence.seconds(call_id) >= self._settings.ingest.paused_idle_seconds
        return None if call.inside else call.flow.idle_record(is_paused_too=is_long)

    # -- ends that were deleted ------------------------------------------------------------------------------------

    async def end_deleted(self, generation: int, held: Held) -> None:
        """End the calls of which the input holds nothing any more."""
        gone = [
            (call_id, partition)
            for call_id, (partition, offset) in self._last.items()
            if partition in held and not held[partition][0] <= offset < held[partition][1]
        ]
        await self._end_those(generation, gone, self._is_over_for_good)

    def _is_complete(self, call_id: str, standing: Standing | None) -> bool:
        """Return whether everything of the call is written that this stage reads of it."""
        return standing is not None and standing.is_complete and (self._has_clock or standing.is_read)

    def _is_over_for_good(self, call_id: str, standing: Standing | None) -> bool:
        # A stage without a clock hears the end of an interrupted call from the one that has it.
        return self._is_complete(call_id, standing) or (self._has_clock and call_id not in self._awake)

    async def _end_those(
        self, generation: int, calls: Calls, is_wanted: Callable[[str, Standing | None], bool]
    ) -> set[str]:
        """End those of the calls that are wanted, and have nothing left to be read; return them."""
        standings = await self._standings(calls)
        # Asked behind that: what call.state tells of was written before it.
        held = await self._positions.held() if standings else {}
        ended: set[str] = set()
        for call_id, partition in calls:
            standing = standings.get(call_id)
            is_known = call_id in self._last  # it may have ended meanwhile
            if not is_known or not is_wanted(call_id, standing) or not self._has_read(partition, held):
                continue
            if self._is_over(generation):
                return ended
            call = self._call_of(call_id, partition)
            is_complete = self._is_complete(call_id, standing)
            # Another feed may have taken the call just now: it is not ended by what the one before it has left.
            is_taken = not is_complete and standing is not None and standing.state.feed_epoch > call.flow.feed_epoch
            if call.inside or is_taken:
                continue
            ended.add(call_id)
            log.warning(
                "a call is ended that nothing more will come of: its records were deleted, or its feed did not come back",
                extra={"call_id": call_id, "is_complete": is_complete},
            )
            samples = {} if standing is None else place_of(standing.state).end_samples
            epoch = 0 if standing is None else standing.state.feed_epoch
            reason = "completed" if is_complete else INTERRUPTED
            last = self._last[call_id][1]
            self._end(call, Ending(offset=last, end_samples=samples, reason=reason, epoch=epoch))
        return ended

    async def _standings(self, calls: Sequence[tuple[str, int]]) -> dict[str, Standing | None]:
        """Return what call.state says of the calls. Raises NotReadyError."""
        found: dict[str, Standing | None] = {}
        for number in sorted({partition for _, partition in calls}):
            wanted = [call_id for call_id, partition in calls if partition == number]
            found |= await aside(partial(read_standings, self._settings, wanted))
        return found

    def _has_read(self, partition: int, held: Held) -> bool:
        """Return whether the partition was read to its end; what was deleted behind that is not there to be read."""
        position = self._next_of(partition)
        first, end = held.get(partition, (0, 1))
        return position is not None and max(first, position) >= end
