"""A schema registry that goes away: calls whose schemas are in use do not notice, and no worker ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from pipeline.demo import assets
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.runtime.provisioning import subjects
from schemas import REPOSITORY_IDS, schema_text
from tests.integration.conftest import Kafka
from tests.integration.feeds import HalfFed
from tests.integration.reading import committed_offset
from tests.integration.system import System, running, wait_for
from tests.unit.schemas.registry_server import RegistryServer
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECONDS = 60.0
UNKNOWN = b"\0\0\0\x0f\xff"  # the magic byte, and an id that nobody has given
STAGES = {
    "call.audio": ("vad",),
    "call.speech": ("asr", "diarize"),
    "call.annotations": ("assemble",),
}


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    """A registry that gives the repository's ids, so that this process needs none."""
    server = RegistryServer()
    server.contents = [f"not ours: {number}" for number in range(1, max(REPOSITORY_IDS.values()) + 1)]
    for record, number in REPOSITORY_IDS.items():
        server.contents[number - 1] = json.dumps(json.loads(schema_text(record)), sort_keys=True)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def system(kafka: Kafka, registry: RegistryServer) -> Iterator[System]:
    settings = kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6)
    for record, names in subjects(settings.topics.prefix).items():
        for name in names:
            registry.store(name, schema_text(record))
    with running(settings, environment={"CALLSCRIBE_SCHEMAS__REGISTRY_URL": registry.url}) as running_system:
        yield running_system


def put(system: System, name: str, key: bytes, *, count: int = 1) -> None:
    producer = Producer({"bootstrap.servers": system.settings.kafka.bootstrap_servers})
    for _ in range(count):
        producer.produce(topic(name).full_name(system.settings.topics.prefix), key=key, value=UNKNOWN, partition=0)
    assert producer.flush(30) == 0


def rejected(system: System, call_id: str | None) -> list[str]:
    """Return the stages that have rejected records of a call."""
    return sorted(letter.stage for letter in read_dead_letters(system.settings) if letter.call_id == call_id)


def questions(registry: RegistryServer) -> int:
    return sum(path == f"/schemas/ids/{int.from_bytes(UNKNOWN[1:])}" for _, path in registry.requests)


def test_a_call_goes_on_beside_one_that_waits_for_the_registry(
    system: System, registry: RegistryServer, call: assets.DemoCall, expected: dict[str, Any]
) -> None:
    before, feed = system.processes(), HalfFed(system.settings, call, "beside")
    feed.first_half()
    registry.failure = (503, b"")
    for name in STAGES:
        put(system, name, b"garbage", count=10)
    wait_for(lambda: questions(registry) >= 3 * sum(map(len, STAGES.values())), SECONDS, "every stage asks again")
    feed.rest()
    assert system.transcript("beside") == expected
    assert rejected(system, "garbage") == []
    registry.failure = None
    owed = sorted(stage for stages in STAGES.values() for stage in stages for _ in range(10))
    wait_for(lambda: rejected(system, "garbage") == owed, SECONDS, "every stage has rejected the garbage")
    asked = questions(registry)
    for name in STAGES:
        put(system, name, b"more-garbage", count=100)
    wait_for(lambda: len(rejected(system, "more-garbage")) == 10 * len(owed), SECONDS, "nobody asks again")
    assert questions(registry) == asked
    assert system.processes() == before


def test_records_without_a_call_are_buried_by_the_hundred(
    system: System, call: assets.DemoCall, expected: dict[str, Any]
) -> None:
    """One after the other, at a round trip each, would take minutes."""
    before = system.processes()
    put(system, "call.audio", b"\xff", count=5000)
    system.feed([("behind", call)])
    assert system.transcript("behind") == expected
    assert rejected(system, None) == ["vad"] * 5000
    assert system.processes() == before
    wait_for(lambda: committed_offset(system.settings, "vad", "call.audio") > 5000, SECONDS, "they are released")
