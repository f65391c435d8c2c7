"""Calls of which a worker hears nothing: feeds that have gone silent, and ends that were deleted before they were read.

What was read to its end is silent; a feed that is silent for long is closed. Where call.state says that the call is complete and
nothing more is there to read, its end is lost: it is ended here, and what is missing of it is a gap. So is an interrupted call that
nobody has resumed for as long as its topic keeps records. Else every stage would keep its state for ever, customers' words included.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from pipeline.core.errors import NotReadyError
from pipeline.core.feeds import INTERRUPTED, LIVE
from pipeline.runtime.call_state import Standing, place_of, read_standings
from pipeline.runtime.carrying import Carrier
from pipeline.runtime.idle import Silence
from pipeline.runtime.lane_states import Known
from pipeline.runtime.lookups import aside
from pipeline.runtime.positions import Positions
from pipeline.runtime.served import Ending, ServedCall
from pipeline.runtime.settings import Settings
from schemas.codec import Codec
from schemas.records import CallAudio

log = logging.getLogger("callscribe.worker")

MAX_PATIENCE = 64  # looks between two questions about a call that cannot be ended
# Since a feed has ended its call: no topic between it and a stage keeps records for longer.
OLD_SECONDS = 7 * 24 * 3600.0

Calls = Mapping[str, int]  # with their partitions
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
        codec: Codec,
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
        self._codec = codec
        self._has_clock = has_clock
        self._call_of = call_of
        self._end = end
        self._next_of = next_of
        self._is_over = is_over
        self._silence = Silence()
        self._last: dict[str, tuple[int, int]] = {}  # partition, and offset of the last record that was heard
        self._awake: dict[str, int] = {}  # partition of those whose feed may speak
        self._held: Held = {}  # at the sweep before
        self._patience: dict[str, tuple[int, int]] = {}  # looks to let pass, and how many they were

    def clear(self) -> None:
        """Forget everything of a generation."""
        self._last.clear()
        self._awake.clear()
        self._patience.clear()
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
        self._patience.pop(call.call_id, None)
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
        if not self._has_clock:
            return
        # What came since the sweep before may still be on its way here; a decision that has missed something is void.
        held, self._held = self._held, await self._positions.held() if self._awake else {}
        silent = {
            call_id: partition
            for call_id, partition in list(self._awake.items())
            if self._is_silent(call_id, partition, held) and self._closing(call_id, partition) is not None
        }
        try:
            ended = await self._end_those(generation, silent, is_deleted=False)
        except NotReadyError as error:  # a feed that is closed may go on, so it need not wait
            log.warning("%s; feeds are closed as they were heard", error)
            ended = set()
        for call_id, partition in silent.items():
            if call_id in ended or not self._is_silent(call_id, partition, held):  # it may have spoken meanwhile
                continue
            record = self._closing(call_id, partition)
            if record is None:
                continue
            if self._is_over(generation):
                return
            log.warning(
                "a feed is silent", extra={"call_id": call_id, "seconds": round(self._silence.seconds(call_id))}
            )
            self._silence.hear(call_id)
            await self._carrier.write_input(record, partition)

    def _is_silent(self, call_id: str, partition: int, held: Held) -> bool:
        is_long = self._silence.seconds(call_id) >= self._settings.ingest.idle_seconds
        return call_id in self._awake and is_long and self._has_read(partition, held)

    def _closing(self, call_id: str, partition: int) -> CallAudio | None:
        """Return the record that closes the feed of a silent call; None where there is none to close. A paused one may be silent."""
        call = self._call_of(call_id, partition)
        is_long = self._silence.seconds(call_id) >= self._settings.ingest.paused_idle_seconds
        return None if call.inside else call.flow.idle_record(is_paused_too=is_long)

    # -- ends that were deleted ------------------------------------------------------------------------------------

    async def end_deleted(self, generation: int) -> None:
        """End the calls of which the input holds nothing any more."""
        if not self._last:
            return
        held = await self._positions.held()
        gone = {
            call_id: partition
            for call_id, (partition, _) in self._last.items()
            if self._is_deleted(call_id, held) and self._is_due(call_id)
        }
        try:
            await self._end_those(generation, gone, is_deleted=True)
        except NotReadyError as error:
            log.warning("%s; calls whose end was deleted wait for it", error)

    def _is_deleted(self, call_id: str, held: Held) -> bool:
        """Return whether the input holds no record of the call, as far as it was heard."""
        partition, offset = self._last.get(call_id, (-1, 0))
        return partition in held and not held[partition][0] <= offset < held[partition][1]

    def _is_due(self, call_id: str) -> bool:
        """Count a look at a call; return whether it is to be asked for. Of one that could not be ended it is less and less often."""
        left, wait = self._patience.get(call_id, (0, 1))
        self._patience[call_id] = (left - 1, wait) if left > 0 else (wait, min(2 * wait, MAX_PATIENCE))
        return left <= 0

    async def _end_those(self, generation: int, calls: Calls, *, is_deleted: bool) -> set[str]:
        """End those of the calls that have nothing left to be read, and are complete or deleted for good; return them."""
        ended: set[str] = set()
        for partition in sorted(set(calls.values())):
            wanted = [call_id for call_id, number in calls.items() if number == partition]
            standings = await aside(partial(read_standings, self._settings, wanted, codec=self._codec))
            # Asked behind that: what call.state tells of was written before it.
            held = await self._positions.held()
            for call_id in wanted:
                if self._is_over(generation):
                    return ended
                if not self._has_read(partition, held) or (is_deleted and not self._is_deleted(call_id, held)):
                    continue
                if call_id in self._last and self._end_one(call_id, partition, standings[call_id], is_deleted):
                    ended.add(call_id)
        return ended

    def _end_one(self, call_id: str, partition: int, standing: Standing | None, is_deleted: bool) -> bool:
        is_complete = self._is_complete(standing)
        # A stage without a clock hears the end of an interrupted call from the one that has it.
        if not is_complete and not (is_deleted and self._has_clock and call_id not in self._awake):
            return False
        call = self._call_of(call_id, partition)
        state = None if standing is None else standing.state
        # Another feed may have taken the call just now: it is not ended by what the one before it has left.
        is_taken = state is not None and (state.state == LIVE or state.feed_epoch > call.flow.feed_epoch)
        if call.inside or (is_taken and not is_complete):
            return False
        log.warning(
            "a call is ended that nothing more will come of: its records were deleted, or its feed did not come back",
            extra={"call_id": call_id, "is_complete": is_complete},
        )
        ending = Ending(
            offset=self._last[call_id][1],
            end_samples={} if state is None else place_of(state).end_samples,
            reason="completed" if is_complete else INTERRUPTED,
            epoch=0 if state is None else state.feed_epoch,
        )
        self._end(call, ending)
        return True

    def _is_complete(self, standing: Standing | None) -> bool:
        """Return whether everything of the call is written that this stage reads of it.

        Behind the stage that reads the feeds that stage says so; where a feed's word has come after its, time does.
        """
        if standing is None or not standing.is_complete:
            return False
        return self._has_clock or standing.is_read or time.time() - standing.state.time_ms / 1000 > OLD_SECONDS

    def _has_read(self, partition: int, held: Held) -> bool:
        """Return whether the partition was read to its end; what was deleted behind that is not there to be read."""
        position = self._next_of(partition)
        if position is None or partition not in held:
            return False
        first, end = held[partition]
        return max(first, position) >= end
