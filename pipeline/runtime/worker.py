"""A stage as a Faust worker.

The agent only distributes what a fetch brought: every call has a task of its own, which runs the stage's `CallFlow` and has its
effects carried out (`pipeline.runtime.carrying`). Anything that is neither done nor poison ends the process at once, with nothing
committed. A rebalance drops every call's task and state; the log delivers what was not released again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from faust.types.tuples import TP

import topics
from pipeline.core.contract import StageSpec
from pipeline.core.errors import FatalError, PoisonError, StaleStateError
from pipeline.core.flow import CallFlow
from pipeline.core.ids import call_id_of_key
from pipeline.runtime.burials import Burials
from pipeline.runtime.care import Care
from pipeline.runtime.carrying import Carrier
from pipeline.runtime.crash_points import reach
from pipeline.runtime.ended import EndedCalls
from pipeline.runtime.exits import exit_hard
from pipeline.runtime.inference import inference_of
from pipeline.runtime.lane_states import LaneStates
from pipeline.runtime.ledger import Ledger
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.positions import Positions
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.retention import RetentionWatch
from pipeline.runtime.room import FairRoom
from pipeline.runtime.served import Ending, ServedCall
from pipeline.runtime.settings import Settings
from pipeline.runtime.transport import Fetched
from pipeline.runtime.unheard import Unheard
from schemas.codec import Codec

log = logging.getLogger("callscribe.worker")

MAX_BURST = 64  # records of one call between two confirmations
SWEEP_SECONDS = 5.0
SWEEPS_PER_LOOK = 12  # between two looks at what retention has deleted
COUNTS_SECONDS = (
    60.0  # between two lines of the log that tell how much was read, dropped, rejected, inferred and skipped
)


class StageWorker:
    """Runs one stage inside a Faust app; `attach` registers it."""

    def __init__(
        self,
        app: Any,
        spec: StageSpec,  # type: ignore[type-arg]
        settings: Settings,
        codec: Codec,
        outbox: Outbox,
        *,
        logic: Any,
        engine: Any,
    ) -> None:
        self._app = app
        self._spec = spec
        self._settings = settings
        self._outbox = outbox
        self._logic = logic
        runtime = settings.runtime
        self._inference = None if engine is None else inference_of(engine, runtime)
        self._input_name = topics.topic(spec.input).full_name(settings.topics.prefix)
        table = app.Table(
            "state", partitions=settings.partitions, key_type=bytes, value_type=bytes
        )  # raw by the app's settings
        self._states = LaneStates(table, table.changelog_topic.get_topic_name(), outbox, codec, stage=spec.name)
        self._positions = Positions(app, self._input_name)
        self._care = Care(self._positions)
        self._pulse = Pulse(settings.kafka.session_timeout_seconds / 2, _stood_still)
        self._carrier = Carrier(
            spec, settings, codec, outbox, self._states, self._inference, self._pulse, self._care.start_of
        )
        self._burials = Burials(self._carrier.bury, self._release)
        self._generation = -1
        self._closed_generation = -1  # its partitions were revoked: what of it is still queued is not ours any more
        self._ledgers: dict[int, Ledger] = {}
        self._calls: dict[str, ServedCall] = {}
        self._ended = EndedCalls(self._states, self._is_over)
        self._unheard = Unheard(
            settings,
            self._positions,
            self._carrier,
            codec,
            has_clock=bool(spec.clocks),
            call_of=self._call,
            end=self._end_call,
            next_of=self._next_offset,
            is_over=self._is_over,
        )
        self._sweeps = 0
        self._taking_over = asyncio.Lock()
        self._retention = RetentionWatch(topics.topic(spec.input))
        self._room = FairRoom(runtime.pending_records, runtime.pending_mb * 1024 * 1024)

    def attach(self) -> None:
        """Register the agent, the rebalance signals and the timer with the app."""
        app = self._app

        @app.on_partitions_revoked.connect
        async def _revoked(sender: Any, revoked: Any, **_: Any) -> None:
            await self._give_up()
            app.consumer.released.clear()

        @app.on_before_shutdown.connect
        async def _closing(sender: Any, **_: Any) -> None:
            await self._give_up()  # before the consumer commits what is released, and leaves the group

        @app.on_rebalance_complete.connect
        async def _quiesce(sender: Any, **_: Any) -> None:
            # Recovery resumes the partitions before it clears its queues (faust issue 596): what the fetcher delivers between
            # the two would be lost for ever. With the flow stopped nothing is delivered until the queues are clear.
            app.consumer.stop_flow()
            app.consumer.released.clear()
            await asyncio.sleep(0)
            try:
                await self._states.load()  # before a commit: an older build touches nothing of a newer one's
                self._positions.listen()
                await self._care.begin(self._settings.runtime.max_deaths)
                app.consumer.remembered = self._care.remembered
                self._room.share_out(len(self._care.starts))
                app.consumer.read_into(self._room)
            except Exception as error:
                exit_hard(error)

        source = app.topic(self._input_name, key_type=bytes, value_type=bytes, internal=True, allow_empty=True)
        app.agent(source, name=f"{self._spec.name}.consume", concurrency=1)(self._consume)
        app.timer(SWEEP_SECONDS, name=f"{self._spec.name}.sweep")(self._sweep)
        app.timer(COUNTS_SECONDS, name=f"{self._spec.name}.counts")(self._tell_counts)

    # -- distribute ----------------------------------------------------------------------------------------------

    async def _consume(self, stream: Any) -> Any:
        self._outbox.start()
        self._pulse.start()
        if self._inference is not None:
            self._inference.start()
        async for event in stream.noack().events():
            try:
                await self._accept(event.value)
            except Exception as error:
                exit_hard(error)
            finally:
                event.value.accepted.set()
            yield

    async def _accept(self, fetched: Fetched) -> None:
        """Give the records of a fetch to their calls. What the room has none for is not read."""
        if fetched.generation < self._generation or fetched.generation <= self._closed_generation:
            return  # delivered before a rebalance: it will be delivered again
        await self._take_over(fetched.generation)
        if fetched.records:
            self._retention.look(getattr(fetched.records[0], "timestamp", 0) or 0)
        ledgers = self._ledgers  # others take their place when a rebalance comes while this waits
        for record in fetched.records:
            start = self._care.starts.get(record.partition)
            ledger = ledgers.get(record.partition)
            if ledger is None:
                ledger = ledgers[record.partition] = Ledger(record.partition, start.offset if start else None)
            ledger.add(record.offset)
            if record.headers and self._spec.skips(dict(record.headers)):
                self._release(record.partition, record.offset)
                continue
            try:
                call_id = call_id_of_key(record.key)
            except PoisonError as error:
                await self._burials.begin(record, error)
                if self._ledgers is not ledgers:
                    return
                continue
            is_alone = self._care.is_alone(record.partition, record.offset)
            if is_alone or self._care.is_on:
                await self._room.empty()
                if self._ledgers is not ledgers or not await self._care.take_in_hand(is_alone and record, ledgers):
                    return
            size = len(record.value or b"")
            self._room.enter(record.partition, size)
            call = self._call(call_id, record.partition)
            call.inside.append(size)
            call.inbox.put_nowait(record)
        if self._care.is_on:  # nothing may come for long, and a death in the meantime is not the last record's
            await self._room.empty()
            if self._ledgers is ledgers:
                await self._care.take_in_hand(None, ledgers)

    async def _take_over(self, generation: int) -> None:
        """Begin with the partitions of ``generation``: look for calls that have ended, and for calls that may never speak again."""
        async with self._taking_over:
            if generation <= self._generation:
                return
            await self._drop_calls()
            self._generation = generation
            calls = list(self._states.calls())
            self._unheard.restart(calls)
            for known in calls:
                self._ended.restore(known)

    def _call(self, call_id: str, partition: int) -> ServedCall:
        call = self._calls.get(call_id)
        if call is None:
            start = self._care.starts.get(partition)
            flow: CallFlow[Any, Any, Any] = CallFlow(
                call_id=call_id,
                logic=self._logic,
                writes=self._spec.writes,
                writers=self._spec.writers,
                clocks=self._spec.clocks,
                stage=self._spec.name,
                generation=self._generation,
                restored=self._states.of_call(call_id),
                read_from=start.offset if start else 0,
                first_offset=start.first if start else 0,
            )
            call = ServedCall(call_id, partition, flow)
            call.task = asyncio.create_task(self._serve(call), name=f"call {call_id}")
            self._calls[call_id] = call
        return call

    async def _give_up(self) -> None:
        """Let go of the partitions: when this returns, nothing of them is on its way to the broker any more.

        What the next owner writes must be the newest, or its restart would find an older state.
        """
        seconds = self._settings.kafka.session_timeout_seconds / 2
        self._closed_generation = self._app.consumer_generation_id
        if self._care.is_on:  # if the record in hand ends the process now, it is to blame
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room.empty(), seconds / 2)
        heads = self._care.heads(self._ledgers)
        await self._drop_calls()
        await self._positions.give_up(self._care.starts, heads, seconds=seconds)
        if not await self._outbox.settled(seconds):
            exit_hard(FatalError("partitions are given up while records are still on their way to the broker"))

    async def _drop_calls(self) -> None:
        """Forget everything of the generation that ends; the log has it."""
        calls, self._calls, self._ledgers = self._calls, {}, {}
        tasks = [call.task for call in calls.values() if call.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._burials.cancel(), return_exceptions=True)
        for call in calls.values():
            self._leave(call, len(call.inside))
        self._ended.clear()
        self._unheard.clear()
        self._states.forget_cache()

    # -- one call ------------------------------------------------------------------------------------------------

    async def _serve(self, call: ServedCall) -> None:
        """Take the call's records in bursts until it has ended, or its feed is gone."""
        try:
            while True:
                records = [await call.inbox.get()]
                while len(records) < MAX_BURST and not call.inbox.empty():
                    records.append(call.inbox.get_nowait())
                carried = await self._carrier.carry(call.flow, call.partition, records)
                if carried.ended_offset is not None:
                    self._ended.end(call.partition, call.call_id, carried.ended_offset)
                for offset in carried.released:
                    self._release(call.partition, offset)
                reach(self._spec.name, "released")
                self._leave(call, len(records))
                self._unheard.hear(call, records[-1].offset, is_heard=carried.is_heard)
                is_over = call.flow.is_ended or call.flow.is_quiet
                if is_over and call.inbox.empty() and self._calls.get(call.call_id) is call:
                    del self._calls[call.call_id]
                    return
        except asyncio.CancelledError:
            raise
        except StaleStateError as error:
            await self._read_again(call.partition, error)
        except Exception as error:
            exit_hard(error)

    async def _read_again(self, partition: int, error: StaleStateError) -> None:
        """Set the committed offset back, and start anew from there."""
        try:
            await self._positions.rewind(self._care.starts[partition], partition, error.offset)
            reach(self._spec.name, "rewound")
        finally:
            exit_hard(error)

    def _leave(self, call: ServedCall, count: int) -> None:
        self._room.leave(call.partition, call.inside[:count])
        del call.inside[:count]

    # -- release -------------------------------------------------------------------------------------------------

    def _release(self, partition: int, offset: int) -> None:
        ledger = self._ledgers.get(partition)
        head = None if ledger is None else ledger.done(offset)
        if head is not None:
            self._app.consumer.released[TP(self._input_name, partition)] = head

    async def _sweep(self) -> None:
        """Let go of the states of ended calls, and close the feeds of silent ones."""
        app = self._app
        if app.rebalancing or not app.tables.recovery.completed.is_set():
            return
        generation = app.consumer_generation_id
        if generation <= self._closed_generation:
            return
        try:
            await self._positions.watch()
            await self._take_over(generation)
            if self._ended.has_whole:
                await self._ended.mark(generation, await self._positions.committed(), self._calls)
            await self._unheard.close_silent(generation)
            self._sweeps += 1
            if self._sweeps % SWEEPS_PER_LOOK == 1:
                await self._unheard.end_deleted(generation)
                if self._ended.has_marked:
                    await self._ended.forget(generation, await self._positions.held(), self._calls)
        except FatalError as error:
            exit_hard(error)
        except Exception as error:  # the broker is away or the group rebalances: the next sweep comes in seconds
            self._unheard.restart()
            log.info("sweep put off", extra={"reason": type(error).__name__})

    def _is_over(self, generation: int) -> bool:
        return generation != self._generation or generation == self._closed_generation

    def _end_call(self, call: ServedCall, ending: Ending) -> None:
        """Let the call take in its end, as if it had been read."""
        self._room.enter(call.partition, 0)
        call.inside.append(0)
        call.inbox.put_nowait(ending)

    def _next_offset(self, partition: int) -> int | None:
        """Return the offset of the next record of a partition; None where nobody knows."""
        ledger, start = self._ledgers.get(partition), self._care.starts.get(partition)
        return ledger.next_offset if ledger is not None else None if start is None else start.offset

    async def _tell_counts(self) -> None:
        inferred = {} if self._inference is None else self._inference.counted()
        log.info("counts", extra={**self._carrier.counts, **inferred, "calls": len(self._calls)})


def _stood_still(seconds: float) -> None:
    exit_hard(FatalError(f"the process stood still for {seconds:.1f} s: its partitions may have another owner by now"))
