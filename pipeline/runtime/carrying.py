"""Carries out what a call's flow asks for, in the order that the delivery guarantee rests on.

For every burst of records of a call:

1. decode; what cannot be used goes to the dead-letter topic and marks the call degraded;
2. outputs are sent in order, and all of them are acknowledged by the broker;
3. lane states are written to the changelog, and acknowledged;
4. input offsets are released, by the caller.

The names in `pipeline.runtime.crash_points` stand between these steps.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import topics
from pipeline.core.contract import StageSpec
from pipeline.core.effects import Effects
from pipeline.core.errors import CondemnedError, FatalError, PoisonError
from pipeline.core.feeds import Place
from pipeline.core.flow import CallFlow
from pipeline.core.ids import CALL_CHANNEL
from pipeline.core.passing import check_key
from pipeline.runtime.attempts import Start
from pipeline.runtime.crash_points import reach
from pipeline.runtime.dead_letters import dead_letter
from pipeline.runtime.inference import Inference
from pipeline.runtime.lane_states import LaneStates
from pipeline.runtime.lookups import Lookups
from pipeline.runtime.outbox import Burst, Outbox
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.served import Ending
from pipeline.runtime.settings import Settings
from pipeline.runtime.starts import CallStarts
from schemas.codec import Codec, CodecError
from schemas.records import CallAudio, CallState, LaneState, Started

log = logging.getLogger("callscribe.worker")


@dataclass(slots=True, kw_only=True)
class Carried:
    """What a burst came to: the offsets that nothing depends on any more, where the call ended if it did, whether its feed was heard."""

    released: list[int] = field(default_factory=list)
    ended_offset: int | None = None
    is_heard: bool = False


class Carrier:
    """Carries out the effects of every call of a worker. ``start_of`` says where its reading started in a partition."""

    def __init__(
        self,
        spec: StageSpec,  # type: ignore[type-arg]
        settings: Settings,
        codec: Codec,
        outbox: Outbox,
        states: LaneStates,
        inference: Inference[Any, Any] | None,
        pulse: Pulse,
        start_of: Callable[[int], Start | None],
    ) -> None:
        prefix = settings.topics.prefix
        self._spec = spec
        self._codec = codec
        self._lookups = Lookups(codec)
        self._starts = CallStarts(settings, codec)
        self._outbox = outbox
        self._states = states
        self._inference = inference
        self._pulse = pulse
        self._start_of = start_of
        self.counts = Counter[
            str
        ]()  # records read since the start; of them repeats that were dropped, and those rejected
        self._input_name = topics.topic(spec.input).full_name(prefix)
        self._output_name = topics.topic(spec.output).full_name(prefix)
        self._dead_letters_name = topics.topic("dead-letters").full_name(prefix)
        self._call_state_name = topics.topic("call.state").full_name(prefix)

    async def carry(self, flow: CallFlow[Any, Any, Any], partition: int, records: Sequence[Any]) -> Carried:
        """Process ``records`` of one call, in order; returns when the broker has all that follows from them.

        `Ending` stands among them where the call is to end without a record.
        """
        stage = self._spec.name
        reach(stage, "received")
        burst = self._outbox.burst()
        states: dict[int, LaneState] = {}
        standing: tuple[str, Place] | None = None
        carried, has_outputs = Carried(), False
        self.counts["records"] += len(records)
        for record in records:
            effects = await (self._end(flow, record) if isinstance(record, Ending) else self._step(flow, record))
            reach(stage, "stepped")
            self._pulse.check()
            has_outputs |= bool(effects.outputs)
            carried.is_heard |= effects.is_heard
            for output in effects.outputs:
                await self._send(flow, partition, output, burst)
            standing = effects.standing or standing
            self.counts["repeats"] += effects.repeats
            states |= {state.channel: state for state in effects.states}
            carried.released += effects.released
        if has_outputs:
            reach(stage, "outputs_sent")
        await burst.delivered()
        if has_outputs:
            reach(stage, "outputs_delivered")
        if standing is not None:  # behind the outputs: who hears that a call is complete goes by that
            self._pulse.check()
            await self._say(flow, partition, *standing)
        if states:
            self._pulse.check()
            # The control lane last: the end of the call in it says that the other lanes are recorded.
            await self._states.record(partition, sorted(states.values(), key=lambda state: -state.channel))
            reach(stage, "states_recorded")
        if flow.is_ended and CALL_CHANNEL in states:
            carried.ended_offset = states[CALL_CHANNEL].ended_offset or 0
        return carried

    async def bury(self, record: Any, error: Exception) -> None:
        """Write the dead letter of a record; returns when it is acknowledged."""
        log.warning(
            "record rejected: %s",
            error,
            extra={"topic": record.topic, "partition": record.partition, "offset": record.offset},
        )
        letter = dead_letter(
            stage=self._spec.name,
            error=error,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            time_ms=time.time_ns() // 1_000_000,
        )
        burst = self._outbox.burst()
        await burst.put(
            self._dead_letters_name, key=letter.key, value=self._codec.encode(letter), partition=record.partition
        )
        await burst.delivered()
        self.counts["rejected"] += 1
        reach(self._spec.name, "letter_delivered")

    async def write_input(self, record: CallAudio, partition: int) -> None:
        """Write a record of the stage's own to its input; returns when it is acknowledged."""
        self._pulse.check()
        burst = self._outbox.burst()
        key, value = record.call_id.encode("ascii"), self._codec.encode(record)
        await burst.put(
            self._input_name, key=key, value=value, partition=partition, headers={"kind": record.kind.encode("ascii")}
        )
        await burst.delivered()
        reach(self._spec.name, "idle_written")

    async def _end(self, flow: CallFlow[Any, Any, Any], ending: Ending) -> Effects:
        steps = flow.end_unheard(
            self._spec.reads, ending.offset, end_samples=ending.end_samples, reason=ending.reason, epoch=ending.epoch
        )
        return await self._inferred(steps, ending.offset)

    async def _step(self, flow: CallFlow[Any, Any, Any], message: Any) -> Effects:
        record, start = None, self._start_of(message.partition)
        try:
            if start is not None and start.is_condemned(message.offset):
                raise CondemnedError
            record = await self._read(flow, message)
            steps = flow.feed(record, message.offset, await self._start_of_call(flow, record))
            return await self._inferred(steps, message.offset)
        except (CodecError, PoisonError) as error:
            await self.bury(message, error)
            about = {"reason": type(error).__name__, "topic": self._input_name, "partition": message.partition}
            if isinstance(error, CondemnedError) and start is not None and not start.is_unread(message.offset):
                with contextlib.suppress(CodecError, PoisonError):
                    record = await self._read(flow, message)
                    known = await self._start_of_call(flow, record)
                    return flow.abandon(record, message.offset, known, **about)
            return flow.reject(message.offset, record=record, **about)

    async def _inferred(self, steps: Generator[Any, Any, Effects], offset: int) -> Effects:
        """Return what ``steps`` come to, with what they ask the engine for."""
        try:
            work = next(steps)
            while True:
                if self._inference is None:
                    raise FatalError(f"stage {self._spec.name} asks for inference and has no engine")
                reach(self._spec.name, "inferring", offset, work)
                work = steps.send(await self._inference.infer(work))
        except StopIteration as stop:
            effects: Effects = stop.value
            return effects

    async def _read(self, flow: CallFlow[Any, Any, Any], message: Any) -> Any:
        """Return the record of a message. Raises CodecError, and PoisonError where it is not the call's."""
        record = await self._lookups.decode(message.value, self._spec.reads)
        check_key(record, flow.call_id)
        reach(self._spec.name, "decoded", message.offset)
        return record

    async def _start_of_call(self, flow: CallFlow[Any, Any, Any], record: Any) -> Started | None:
        """Return how a call has started whose start was deleted before it was read, as far as anybody knows."""
        return await self._starts.find(flow.call_id) if flow.lacks_start(record) else None

    async def _send(self, flow: CallFlow[Any, Any, Any], partition: int, output: Any, burst: Burst) -> None:
        lane = flow.channels.get(output.channel)
        await burst.put(
            self._output_name,
            key=flow.call_id.encode("ascii"),
            value=self._codec.encode(output),
            partition=partition,
            headers=self._spec.headers(output, lane) if lane is not None else None,
        )

    async def _say(self, flow: CallFlow[Any, Any, Any], partition: int, state: str, place: Place) -> None:
        """Write where the call stands: whether a feed may take it, and where it goes on; returns when it is acknowledged."""
        standing = CallState(
            call_id=flow.call_id,
            state=state,
            feed_epoch=flow.feed_epoch,
            next_sequence={str(channel): sequence for channel, sequence in place.next_sequence.items()},
            end_samples={str(channel): end for channel, end in place.end_samples.items()},
            tenant=None if flow.started is None else flow.started.tenant,
            time_ms=time.time_ns() // 1_000_000,
            stage=self._spec.name,
            started=None if flow.started is None else replace(flow.started, attributes={}),
        )
        key, value = flow.call_id.encode("ascii"), self._codec.encode(standing)
        burst = self._outbox.burst()
        await burst.put(self._call_state_name, key=key, value=value, partition=partition)
        await burst.delivered()
