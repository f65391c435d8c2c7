"""Faust's Kafka consumer with fetches in batches.

Faust asks the broker for every record as it comes, and takes each through a dozen calls of its own. With many live calls that is most
of a worker's time, and much of the broker's. Here the broker collects for some milliseconds, and what a fetch brought of the stage's
input goes to the stage's agent as one event. What may be committed, the worker says; Faust's acknowledgements are not used.

A partition whose share of the worker's room is taken is not read: what was fetched of it (9 MB at most) stays with aiokafka's fetcher,
which fetches nothing more of it meanwhile, and goes on with the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types.tuples import TP

from pipeline.runtime.attempts import terminated
from pipeline.runtime.room import FairRoom

MIN_FETCH_BYTES = 4 * 1024 * 1024  # in effect: wait for the time, not for the size
# The consumer's thread does one thing after the other: while one waits for its answer, nothing is fetched or committed.
ANSWER_SECONDS = 5.0
STEP = 16  # records that are read between two looks at the room
CHUNK = 64  # records of a changelog delivered before other tasks get their turn


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of the input that one fetch brought: in order within a partition, read in a generation of the group.

    Nothing more is handed over before ``accepted`` is set, by who takes them in.
    """

    generation: int
    records: Sequence[Any]
    accepted: asyncio.Event = field(default_factory=asyncio.Event)


def batch_fetches(app: Any, *, topic: str, wait_seconds: float) -> None:
    """Make the consumer of ``app`` collect what arrives within ``wait_seconds``, and hand over records of ``topic`` as `Fetched`.

    Call before the app starts. One agent may read the topic.
    """
    attributes = {"wait_ms": round(wait_seconds * 1000), "input_topic": topic}
    app.transport.Consumer = type("BatchingConsumer", (_BatchingConsumer,), attributes)


class _Wanted:
    """The partitions to read, as aiokafka's fetcher asks for them: again and again while it waits. Those without room are left out."""

    def __init__(self, active: set[TP] | None, topic: str, room: FairRoom | None) -> None:
        self._active = active  # changes while this is asked
        self._topic = topic
        self._room = room
        self._taken: dict[int, tuple[int, int]] = {}  # records and bytes of partitions, on their way into the room

    def __contains__(self, tp: TopicPartition) -> bool:
        if self._active is not None and tp not in self._active:
            return False
        if self._room is None or tp.topic != self._topic:
            return True
        return not self._room.is_full(tp.partition, *self._taken.get(tp.partition, (0, 0)))

    def take(self, tp: TopicPartition, records: Sequence[Any]) -> None:
        """Count what was read."""
        if tp.topic == self._topic:
            count, size = self._taken.get(tp.partition, (0, 0))
            read = sum(len(record.value or b"") for record in records)
            self._taken[tp.partition] = count + len(records), size + read


class _BatchingThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread that owns the aiokafka consumer."""

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        consumer = super()._create_consumer(loop)
        wait_ms = self.consumer.wait_ms
        if wait_ms:
            consumer._fetch_min_bytes = MIN_FETCH_BYTES
            consumer._fetch_max_wait_ms = wait_ms
        return consumer

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP] | None,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> dict[TP, list[Any]]:
        """Return what was fetched of partitions with room, of each up to its share and fewer than ``STEP`` records more.

        Waits for ``timeout`` where there is nothing, or no room: `look_again` ends that wait.
        """
        found: dict[TP, list[Any]] = {}
        wanted = _Wanted(active_partitions, self.consumer.input_topic, self.consumer.room)
        left = max_records or STEP
        while left > 0:
            step = await super()._fetch_records(consumer, wanted, timeout, min(STEP, left))
            if not step:
                break
            for tp, records in step.items():
                found.setdefault(tp, []).extend(records)
                wanted.take(tp, records)
                left -= len(records)
            timeout = 0
        return found

    def look_again(self) -> None:
        """Have a read that waits look at the room again. Called from the worker's thread."""
        with contextlib.suppress(RuntimeError):  # the thread's loop has ended
            self.thread_loop.call_soon_threadsafe(self._look_again)

    def _look_again(self) -> None:
        fetcher: Any = None if self._consumer is None else self._consumer._fetcher
        if fetcher is not None:
            for waiter in fetcher._fetch_waiters:
                fetcher._notify(waiter)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every partition to its committed offset; return the offsets."""
        return await self.call_thread(seek_to_committed, self._ensure_consumer())  # type: ignore[no-any-return]

    async def commit_remembering(self, commits: Mapping[TP, tuple[int, str]]) -> bool:
        """Commit (offset, metadata) of partitions that are still assigned; as Faust's own `commit`, which has no metadata."""
        return await self.call_thread(self._commit_remembering, commits)  # type: ignore[no-any-return]

    async def _commit_remembering(self, commits: Mapping[TP, tuple[int, str]]) -> bool:
        assigned = self.assignment()
        known = {TopicPartition(*tp): OffsetAndMetadata(*at) for tp, at in commits.items() if tp in assigned}
        if not known:
            return False
        try:
            await asyncio.wait_for(self._ensure_consumer().commit(known), ANSWER_SECONDS)
        except CommitFailedError:  # the partitions are on their way to somebody else
            return False
        except TimeoutError:  # the next one comes in a second
            return False
        except Exception as error:
            self.log.error("offsets not committed: %s", type(error).__name__)
            await self.crash(error)
            return False
        return True


async def seek_to_committed(consumer: Any) -> Mapping[TP, int]:
    """Seek an aiokafka consumer to its committed offsets; return them.

    Its own method does not go back where 0 is committed: what was read before the first commit would never come again.
    """
    offsets: Mapping[TP, int] = await consumer.seek_to_committed()
    for tp, offset in offsets.items():
        if offset == 0:
            consumer.seek(tp, 0)
    return offsets


class _BatchingConsumer(Consumer):  # type: ignore[misc]
    """Faust's consumer with the thread above, one event per fetch, and offsets from the worker.

    ``released`` holds, by partition of the input, the offset that may be committed; ``remembered`` says what a commit's metadata is.
    """

    wait_ms = 0
    input_topic = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.room: FairRoom | None = None
        self.released: dict[TP, int] = {}
        self.remembered: Callable[[TP, int], str] = lambda tp, offset: ""

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _BatchingThread(self, loop=self.loop, beacon=self.beacon)

    # -- reading -------------------------------------------------------------------------------------------------

    def read_into(self, room: FairRoom) -> None:
        """Read of the input what ``room`` has room for."""
        self.room = room
        room.freed = self._thread.look_again

    async def _drain_messages(self, fetcher: Any) -> None:
        """Read and deliver until the consumer or its fetcher stops, as `faust.transport.consumer.Consumer` does.

        A suspended flow (a rebalance) ends a delivery in its middle; what it left is read again from the committed offset.
        """
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                records, active = await self._wait_next_records(1.0)
                await self.sleep(0)
                if not records or self.should_stop:
                    continue
                if self.flow_active:
                    generation = self.app.consumer_generation_id
                    await self.wait_first(self._deliver(records, active, generation), self.suspend_flow.wait())
                else:
                    await self._seek_back()
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.transport.app.should_stop:
                raise

    async def _seek_back(self) -> None:
        """Forget what was fetched while the flow was stopped, as Faust does."""
        try:
            await self.perform_seek()
        except Exception as error:  # the partitions are on their way to somebody else
            self.log.info("the position could not be moved back: %s", type(error).__name__)

    async def _deliver(self, records: Mapping[TP, Sequence[Any]], active: set[TP] | None, generation: int) -> None:
        found: list[Any] = []
        ends: dict[TP, int] = {}
        for tp, batch in records.items():
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            read = self._read_offset[tp]
            fresh = batch if read is None else [record for record in batch if record.offset >= read]
            if tp.topic != self.input_topic:
                await self._restore(tp, fresh)
            elif fresh:
                found += fresh
                ends[tp] = fresh[-1].offset
        if found:
            await self._hand_over(Fetched(generation, found))
            self._read_offset.update(ends)

    async def _hand_over(self, fetched: Fetched) -> None:
        """Give a batch to the agent that reads the input; return when the agent has taken it in."""
        (channel,) = self.app.topics._topic_name_index[self.input_topic]
        last = fetched.records[-1]
        message = self._to_message(TP(last.topic, last.partition), last)
        await channel.queue.put(self.app.create_event(None, fetched, None, message))
        await fetched.accepted.wait()

    async def _restore(self, tp: TP, records: Sequence[Any]) -> None:
        """Deliver records of a changelog one by one, as Faust does."""
        for count, record in enumerate(records):
            if count % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            await self.callback(self._to_message(tp, record))
            self._read_offset[tp] = record.offset

    # -- committing ----------------------------------------------------------------------------------------------

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self.released if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self.released.get(tp)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        commits = {tp: (offset, terminated(self.remembered(tp, offset))) for tp, offset in offsets.items()}
        return await self._thread.commit_remembering(commits)  # type: ignore[no-any-return]

    async def verify_all_partitions_active(self) -> None:
        """Warn of nothing: Faust judges by its own acknowledgements, which are not used here."""
