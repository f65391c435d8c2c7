"""Where a worker stands in its input, as the broker knows it: first offsets, committed offsets, and what commits remember."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.runtime.attempts import Start, terminated
from pipeline.runtime.transport import ANSWER_SECONDS

log = logging.getLogger("callscribe.worker")


class Positions:
    """The input ``topic`` of a Faust app's consumer, asked in the consumer's own thread."""

    def __init__(self, app: Any, topic: str) -> None:
        self._app = app
        self._topic = topic
        self._is_missing = False
        # What is committed is of the log that was deleted: a commit may have been under way when the broker forgot them.
        self._is_made_again = False
        self._has_asked = False
        self._is_listening = False
        self._not_taken_back: dict[int, Start] = {}  # starts of this process that others count as deaths

    async def starts(self, max_deaths: int) -> dict[int, Start]:
        """Return where reading starts in every assigned partition, and commit it, with one more start in the metadata.

        What was fetched while the flow was stopped is dropped, and Faust seeks back to committed offsets only: in a partition
        without one those records would be lost.
        """
        assigned = self._assigned()
        if not assigned:
            return {}
        first = await _surely(self._ask, "beginning_offsets", assigned)
        end = await _surely(self._ask, "end_offsets", assigned)
        committed = await _surely(self._committed, assigned)
        starts = {}
        for tp in assigned:
            # A log without its first record is an old one: the broker has only failed to name the topic for a while.
            known = None if self._is_made_again and first[tp] == 0 else committed.get(tp)
            starts[tp.partition] = Start.from_commit(
                known.offset if known else None,
                known.metadata if known else None,
                first=first[tp],
                end=end[tp],
                max_deaths=max_deaths,
                last=self._not_taken_back.get(tp.partition),
            )
        self._not_taken_back, self._is_made_again = {}, False
        await self.remember(starts, {number: start.offset for number, start in starts.items()})
        return starts

    async def remember(self, starts: Mapping[int, Start], heads: Mapping[int, int]) -> bool:
        """Commit the ``heads`` of partitions with what their ``starts`` say now; False when a rebalance began."""
        return await self._commit(
            {number: (heads[number], one.metadata(heads[number])) for number, one in starts.items()}
        )

    async def give_up(self, starts: Mapping[int, Start], heads: Mapping[int, int], *, seconds: float) -> None:
        """Take the ``starts`` back that have made no progress: the worker goes in good order, and no record is to blame.

        What the broker does not take within ``seconds`` another owner counts; this process knows better.
        """
        going = {number: start for number, start in starts.items() if not start.is_over}
        for start in going.values():
            start.is_over = True  # what Faust commits from now on says so, too
        going = {number: one for number, one in going.items() if heads[number] > one.offset or one.attempts.starts}
        if going:
            self._not_taken_back = going
            with contextlib.suppress(KafkaError, TimeoutError):
                if await asyncio.wait_for(self.remember(going, heads), seconds):
                    self._not_taken_back = {}

    async def rewind(self, start: Start, partition: int, offset: int) -> None:
        """Set the committed offset back: the next start reads from ``offset``."""
        await self._commit({partition: (offset, start.rewound(offset))})

    async def committed(self) -> dict[int, int]:
        """Return the committed offset of every assigned partition; -1 where nothing is committed."""
        assigned = self._assigned()
        found = await self._committed(assigned)
        return {tp.partition: found[tp].offset if tp in found else -1 for tp in assigned}

    async def held(self) -> dict[int, tuple[int, int]]:
        """Return what every assigned partition holds: the offset of its oldest record, and the one behind its last."""
        assigned = self._assigned()
        first = await self._ask("beginning_offsets", assigned) if assigned else {}
        end = await self._ask("end_offsets", assigned) if assigned else {}
        return {tp.partition: (first[tp], end[tp]) for tp in assigned}

    def listen(self) -> None:
        """Hear of the topic whenever the broker says something of it: it may be deleted and made again between two sweeps."""
        if not self._is_listening:
            self._consumer()._client.cluster.add_listener(self._hear)
            self._is_listening = True

    async def watch(self) -> None:
        """Look after the topic, every few seconds: say that it is missing, and join the group anew when it is there again.

        Who handed the partitions out left a missing topic's out, and a static member gets the same ones again after a restart. So a
        worker without any asks once, too. One that was deleted and made again is another log, and is read from its beginning.
        """
        consumer = self._consumer()
        self._hear(consumer._client.cluster)
        if self._is_missing:
            with contextlib.suppress(KafkaError, TimeoutError):  # the broker is away
                await self._call(_refresh, consumer._client)
            if consumer.partitions_for_topic(self._topic):
                log.warning("topic %s is there again", self._topic)
                self._is_missing, self._is_made_again, self._has_asked = False, True, False
        if not self._is_missing and not self._has_asked and (self._is_made_again or not self._assigned()):
            self._has_asked = True
            await self._call(_rejoin, consumer._coordinator)

    def _hear(self, cluster: Any) -> None:
        """Look at what the broker says of its topics."""
        is_there = cluster.partitions_for_topic(self._topic) or self._topic in cluster.unauthorized_topics
        if not self._is_missing and not is_there:
            log.error("topic %s is missing; waiting for it (callscribe topics apply)", self._topic)
            self._is_missing = True

    def _assigned(self) -> list[TopicPartition]:
        return [TopicPartition(*tp) for tp in self._app.consumer.assignment() if tp.topic == self._topic]

    def _consumer(self) -> Any:
        return self._app.consumer._thread._ensure_consumer()

    async def _call(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Return what ``function`` returns in the consumer's thread; raises TimeoutError, and lets the thread go on, without an answer."""
        return await self._app.consumer._thread.call_thread(_in_time, function, *arguments)

    async def _committed(self, assigned: list[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        coordinator = self._consumer()._coordinator  # `committed` of the consumer tells no metadata
        found = await self._call(coordinator.fetch_committed_offsets, assigned)
        return {tp: at for tp, at in found.items() if at.offset >= 0}

    async def _ask(self, question: str, assigned: list[TopicPartition]) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = await self._call(getattr(self._consumer(), question), assigned)
        return found

    async def _commit(self, offsets: Mapping[int, tuple[int, str]]) -> bool:
        """Commit (offset, metadata); return False where the group is about to hand the partitions out anew."""
        commits = {
            TopicPartition(self._topic, partition): OffsetAndMetadata(offset, terminated(text))
            for partition, (offset, text) in offsets.items()
        }
        try:
            await _surely(self._call, self._consumer().commit, commits)
        except (CommitFailedError, IllegalStateError):
            return False
        return True


async def _in_time(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    return await asyncio.wait_for(function(*arguments), ANSWER_SECONDS)


async def _surely(ask: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Return the answer, asked for again until it comes: the broker may be away for long."""
    while True:
        with contextlib.suppress(TimeoutError):
            return await ask(*arguments)


async def _refresh(client: Any) -> None:
    await client.force_metadata_update()


async def _rejoin(coordinator: Any) -> None:
    coordinator.request_rejoin()
