"""Which partitions a worker owns, as the coordinator of its group says.

Asked with aiokafka: librdkafka's admin client aborts the process when a request times out while its broker is away.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

import topics
from pipeline.core.errors import NotReadyError
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.settings import Settings

ASK_SECONDS = 3.0


def partitions_of(settings: Settings, worker: str) -> frozenset[int]:
    """Return the partitions of its input that the worker (``<stage>-<number>`` of a supervisor) owns; empty when it is no member.

    The id of a static member begins with its instance id, which ends in the worker's and the stage's name. Raises
    NotReadyError when the broker does not answer.
    """
    stage = worker.rpartition("-")[0]
    members = asyncio.run(_members(settings, f"{settings.topics.prefix}.{stage}"))
    name = input_of(stage).full_name(settings.topics.prefix)
    return frozenset(
        owned.partition
        for member_id, assignment in members
        if f".{worker}.{stage}-" in member_id and assignment
        for owned in ConsumerProtocolMemberAssignment.decode(assignment).partitions()
        if owned.topic == name
    )


def input_of(stage: str) -> topics.Topic:
    """Return the topic a stage reads."""
    return next(topic for topic in topics.load() if not topic.changelog_of and stage in topic.consumers)


async def _members(settings: Settings, group: str) -> list[tuple[str, bytes]]:
    """Return the id and the encoded assignment of every member."""
    client = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap_servers(settings), request_timeout_ms=int(ASK_SECONDS * 1000)
    )
    try:
        async with asyncio.timeout(ASK_SECONDS):
            await client.start()
            answers: list[Any] = await client.describe_consumer_groups([group])
    except (TimeoutError, KafkaError, OSError) as error:
        raise NotReadyError(f"group {group}: its members are not known ({type(error).__name__})") from None
    finally:
        await client.close()
    return [(member[0], member[4]) for answer in answers for found in answer.groups for member in found[5]]
