"""A stage as a Faust worker.

The agent only distributes what a fetch brought: every call has a task of its own, which decodes, runs the stage's `CallFlow`, and
carries its effects out. The delivery guarantee, in this order for every burst of records of a call:

1. decode; what cannot be used goes to the dead-letter topic and marks the call degraded;
2. outputs are sent in order, and all of them are acknowledged by the broker;
3. lane states are written to the changelog, and acknowledged;
4. input offsets are released to the ledger, which says in order what may be committed.

Anything else ends the process at once (`os._exit`), with nothing committed. A rebalance drops every call's task and state; the log
delivers what was not released again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
import traceback
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from aiokafka.structs import TopicPartition
from faust.types.tuples import TP

import topics
from pipeline.core.contract import StageSpec
from pipeline.core.errors import CallscribeError, FatalError, PoisonError
from pipeline.core.flow import CallFlow, Effects
from pipeline.core.ids import call_id_of_key
from pipeline.runtime.dead_letters import dead_letter
from pipeline.runtime.inference import inference_of
from pipeline.runtime.lane_states import LaneStates
from pipeline.runtime.ledger import Ledger
from pipeline.runtime.outbox import Burst, Outbox
from pipeline.runtime.settings import Settings
from pipeline.runtime.transport import Fetched
from schemas.codec import Codec, CodecError
from schemas.records import LaneState

log = logging.getLogger("callscribe.worker")

MAX_BURST = 64  # records of one call between two confirmations
SWEEP_SECONDS = 5.0
COUNTS_SECONDS = 60.0  # between two lines of the log that tell how much was inferred, and what was skipped


def exit_hard(error: BaseException) -> None:
    """End the process at once; nothing it holds is acknowledged.

    The text of an error that is not ours may quote a record: its type and the places it went through are logged, not its text.
    """
    if isinstance(error, CallscribeError):
        log.critical("worker stops: %s", error)
    else:
        log.critical("worker stops: %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    logging.shutdown()
    sys.stderr.flush()
    os._exit(1)


@dataclass(slots=True)
class _Call:
    """One call in this worker: its flow, and the records that wait for it."""

    call_id: str
    partition: int
    flow: CallFlow[Any, Any, Any]
    inbox: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None


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
        prefix = settings.topics.prefix
        self._app = app
        self._spec = spec
        self._settings = settings
        self._codec = codec
        self._outbox = outbox
        self._logic = logic
        runtime = settings.runtime
        self._inference = None if engine is None else inference_of(engine, runtime)
        self._input_name = topics.topic(spec.input).full_name(prefix)
        self._output_name = topics.topic(spec.output).full_name(prefix)
        self._dead_letters_name = topics.topic("dead-letters").full_name(prefix)
        table = app.Table(
            "state", partitions=settings.partitions, key_type=bytes, value_type=bytes
        )  # raw by the app's settings
        self._states = LaneStates(table, table.changelog_topic.get_topic_name(), outbox, codec)
        self._generation = -1
        self._closed_generation = -1  # its partitions were revoked: what of it is still queued is not ours any more
        self._ledgers: dict[int, Ledger] = {}
        self._starts: dict[int, int] = {}
        self._calls: dict[str, _Call] = {}
        self._ended: dict[int, dict[str, int]] = defaultdict(dict)
        self._room = asyncio.Semaphore(runtime.pending_records)

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
                self._starts = await self._fix_starts()
            except Exception as error:
                exit_hard(error)

        source = app.topic(self._input_name, key_type=bytes, value_type=bytes, internal=True, allow_empty=True)
        app.agent(source, name=f"{self._spec.name}.consume", concurrency=1)(self._consume)
        app.timer(SWEEP_SECONDS, name=f"{self._spec.name}.sweep")(self._sweep)
        if self._inference is not None:
            app.timer(COUNTS_SECONDS, name=f"{self._spec.name}.counts")(self._tell_counts)

    # -- distribute ----------------------------------------------------------------------------------------------

    async def _consume(self, stream: Any) -> Any:
        self._outbox.start()
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
        """Give the records of a fetch to their calls; waits while too many are in memory."""
        if fetched.generation < self._generation or fetched.generation <= self._closed_generation:
            return  # delivered before a rebalance: it will be delivered again
        if fetched.generation > self._generation:
            await self._drop_calls()
            self._generation = fetched.generation
            for partition, call_id, offset in self._states.ended():
                self._ended[partition][call_id] = offset
        ledgers = self._ledgers  # others take their place when a rebalance comes while this waits
        for record in fetched.records:
            ledger = ledgers.get(record.partition)
            if ledger is None:
                ledger = ledgers[record.partition] = Ledger(record.partition, self._starts.get(record.partition))
            ledger.add(record.offset)
            if record.headers and self._spec.skips(dict(record.headers)):
                self._release(record.partition, record.offset)
                continue
            try:
                call_id = call_id_of_key(record.key)
            except PoisonError as error:
                await self._bury(record, error)
                if self._ledgers is not ledgers:
                    return
                self._release(record.partition, record.offset)
                continue
            await self._room.acquire()
            if self._ledgers is not ledgers:
                self._room.release()
                return
            self._call(call_id, record.partition).inbox.put_nowait(record)

    def _call(self, call_id: str, partition: int) -> _Call:
        call = self._calls.get(call_id)
        if call is None:
            flow: CallFlow[Any, Any, Any] = CallFlow(
                call_id=call_id,
                logic=self._logic,
                writes=self._spec.writes,
                writers=self._spec.writers,
                stage=self._spec.name,
                generation=self._generation,
                restored=self._states.of_call(call_id),
            )
            call = _Call(call_id, partition, flow)
            call.task = asyncio.create_task(self._serve(call), name=f"call {call_id}")
            self._calls[call_id] = call
        return call

    async def _give_up(self) -> None:
        """Let go of the partitions: when this returns, nothing of them is on its way to the broker any more.

        What the next owner writes must be the newest, or its restart would find an older state.
        """
        self._closed_generation = self._generation
        await self._drop_calls()
        if not await self._outbox.settled(self._settings.kafka.session_timeout_seconds / 2):
            exit_hard(FatalError("partitions are given up while records are still on their way to the broker"))

    async def _drop_calls(self) -> None:
        """Forget everything of the generation that ends; the log has it."""
        calls, self._calls, self._ledgers = self._calls, {}, {}
        tasks = [call.task for call in calls.values() if call.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(sum(call.inbox.qsize() for call in calls.values())):
            self._room.release()
        self._ended.clear()
        self._states.forget_cache()

    # -- one call ------------------------------------------------------------------------------------------------

    async def _serve(self, call: _Call) -> None:
        """Take the call's records in bursts until it has ended."""
        try:
            while True:
                records = [await call.inbox.get()]
                while len(records) < MAX_BURST and not call.inbox.empty():
                    records.append(call.inbox.get_nowait())
                try:
                    await self._process(call, records)
                finally:
                    for _ in records:
                        self._room.release()
                if call.flow.is_ended and call.inbox.empty() and self._calls.get(call.call_id) is call:
                    del self._calls[call.call_id]
                    return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            exit_hard(error)

    async def _process(self, call: _Call, records: list[Any]) -> None:
        burst = self._outbox.burst()
        states: dict[int, LaneState] = {}
        released: list[int] = []
        for record in records:
            effects = await self._step(call, record)
            for output in effects.outputs:
                await self._send(call, output, burst)
            states |= {state.channel: state for state in effects.states}
            released += effects.released
        await burst.delivered()
        if states:
            # The control lane last: the end of the call in it says that the other lanes are recorded.
            await self._states.record(call.partition, sorted(states.values(), key=lambda state: -state.channel))
        if call.flow.is_ended and -1 in states:
            self._ended[call.partition][call.call_id] = states[-1].ended_offset or 0
        for offset in released:
            self._release(call.partition, offset)

    async def _step(self, call: _Call, message: Any) -> Effects:
        try:
            record = self._codec.decode(message.value, self._spec.reads)
            if record.call_id != call.call_id:
                raise PoisonError("the record's call_id is not its key")
            steps = call.flow.feed(record, message.offset)
            work = next(steps)
            while True:
                if self._inference is None:
                    raise FatalError(f"stage {self._spec.name} asks for inference and has no engine")
                work = steps.send(await self._inference.infer(work))
        except StopIteration as stop:
            effects: Effects = stop.value
            return effects
        except (CodecError, PoisonError) as error:
            await self._bury(message, error)
            return call.flow.reject(
                message.offset, reason=type(error).__name__, topic=self._input_name, partition=message.partition
            )

    async def _send(self, call: _Call, output: Any, burst: Burst) -> None:
        lane = call.flow.channels.get(output.channel)
        await burst.put(
            self._output_name,
            key=call.call_id.encode("ascii"),
            value=self._codec.encode(output),
            partition=call.partition,
            headers=self._spec.headers(output, lane) if lane is not None else None,
        )

    async def _bury(self, message: Any, error: Exception) -> None:
        log.warning(
            "record rejected: %s",
            error,
            extra={"topic": message.topic, "partition": message.partition, "offset": message.offset},
        )
        letter = dead_letter(
            stage=self._spec.name,
            error=error,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            key=message.key,
            value=message.value,
            time_ms=time.time_ns() // 1_000_000,
        )
        burst = self._outbox.burst()
        await burst.put(
            self._dead_letters_name, key=message.key, value=self._codec.encode(letter), partition=message.partition
        )
        await burst.delivered()

    # -- release -------------------------------------------------------------------------------------------------

    def _release(self, partition: int, offset: int) -> None:
        ledger = self._ledgers.get(partition)
        head = None if ledger is None else ledger.done(offset)
        if head is not None:
            self._app.consumer.released[TP(self._input_name, partition)] = head

    async def _sweep(self) -> None:
        """Delete the states of ended calls once the broker's committed offset has passed their last record."""
        if self._app.rebalancing or not any(self._ended.values()):
            return
        generation = self._generation
        try:
            committed = await self._committed()
        except Exception as error:  # the broker is away or the group rebalances: the next sweep comes in seconds
            log.info("sweep put off", extra={"reason": type(error).__name__})
            return
        for partition, calls in list(self._ended.items()):
            for call_id, offset in list(calls.items()):
                if generation != self._generation or generation == self._closed_generation:
                    return
                if committed.get(partition, -1) > offset and call_id not in self._calls:
                    await self._states.delete(partition, call_id)
                    calls.pop(call_id, None)

    async def _tell_counts(self) -> None:
        assert self._inference is not None
        log.info("inferred", extra={**self._inference.counted(), "calls": len(self._calls)})

    async def _fix_starts(self) -> dict[int, int]:
        """Return where reading starts in every assigned partition of the input, and commit it where nothing is committed yet.

        What was fetched while the flow was stopped is dropped, and Faust seeks back to committed offsets only: in a partition
        without one those records would be lost.
        """
        thread = self._app.consumer._thread
        consumer = thread._ensure_consumer()
        assigned = [TopicPartition(*tp) for tp in self._app.consumer.assignment() if tp.topic == self._input_name]
        first = await thread.call_thread(consumer.beginning_offsets, assigned) if assigned else {}
        committed = {tp: await thread.call_thread(consumer.committed, tp) for tp in assigned}
        fresh = {tp: first[tp] for tp in assigned if committed[tp] is None}
        if fresh:
            await thread.call_thread(consumer.commit, fresh)
        return {tp.partition: max(first[tp], committed[tp] or 0) for tp in assigned}

    async def _committed(self) -> dict[int, int]:
        """Return the committed offset of every assigned partition of the input, as the broker knows it."""
        thread = self._app.consumer._thread
        consumer = thread._ensure_consumer()
        committed = {}
        for tp in self._app.consumer.assignment():
            if tp.topic == self._input_name:
                offset = await thread.call_thread(consumer.committed, tp)
                committed[tp.partition] = -1 if offset is None else offset
        return committed
