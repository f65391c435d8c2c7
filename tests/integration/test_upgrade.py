"""A newer build goes on with a call from the states that an older one has left on the broker."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer

from pipeline.core.entries import STATE_VERSION
from pipeline.demo import assets
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.runtime.settings import Settings
from schemas import RELEASED, REPOSITORY_IDS, records, released_schema_text
from schemas.codec import HEADER, MAGIC, Codec, decode_plain
from schemas.records import CallSegment, LaneState
from tests.integration.conftest import Kafka
from tests.integration.feeds import HalfFed
from tests.integration.reading import records_of
from tests.integration.system import running, wait_for
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECONDS = 60.0
RELEASE = "1"
STATE_ID = json.loads((RELEASED / RELEASE / "ids.json").read_text("utf-8"))["LaneState"]
STAGES = ("vad", "asr", "diarize", "assemble")
CODEC = Codec()


def plain(record: Any) -> bytes:
    """Return the body of a record as release 1 wrote it: what has come since is left out."""
    schema = fastavro.parse_schema(json.loads(released_schema_text(RELEASE, type(record).__name__)))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record.to_avro())
    return out.getvalue()


def downgraded(value: bytes, stage: str) -> bytes:
    """Return a state that today's build wrote as release 1 would have written it."""
    state = CODEC.decode(value, LaneState)
    assert state.version == STATE_VERSION
    lane = getattr(records, f"{stage.capitalize()}Lane")
    logic = None if state.logic is None else plain(decode_plain(state.logic, lane))
    return HEADER.pack(MAGIC, STATE_ID) + plain(replace(state, version=int(RELEASE), logic=logic))


def put_back(settings: Settings, stage: str) -> int:
    """Write every state that the stage has left again, as release 1 wrote it; return how many there are."""
    name = f"{stage}-state-changelog"
    last = {message.key(): message.value() for message in records_of(settings, name)}
    states = {key: value for key, value in last.items() if value is not None}
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for key, value in states.items():
        full_name = topic(name).full_name(settings.topics.prefix)
        producer.produce(full_name, key=key, value=downgraded(value, stage), partition=0)
    assert producer.flush(10) == 0
    return len(states)


def versions(settings: Settings, stage: str) -> set[tuple[int, int]]:
    """Return schema id and version of the states that are the last ones of their lanes."""
    last = {message.key(): message.value() for message in records_of(settings, f"{stage}-state-changelog")}
    return {(HEADER.unpack_from(value)[1], CODEC.decode(value, LaneState).version) for value in last.values() if value}


def test_a_call_goes_on_behind_an_upgrade(kafka: Kafka, call: assets.DemoCall, expected: dict[str, Any]) -> None:
    settings = kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6)
    feed = HalfFed(settings, call, "upgraded")
    with running(settings):
        feed.up_to(0.7)
        wait_for(lambda: has_segment(settings), SECONDS, "something of the call is behind every stage")
        wait_for(lambda: all(lanes_of(settings, stage) == {"-1", "0", "1"} for stage in STAGES), SECONDS, "states")
    assert [put_back(settings, stage) for stage in STAGES] == [3] * len(STAGES)
    assert [versions(settings, stage) for stage in STAGES] == [{(STATE_ID, int(RELEASE))}] * len(STAGES)
    with running(settings) as system:
        feed.rest()
        assert system.transcript("upgraded") == expected
        assert sum(worker.restarts for worker in system.supervisor.state.workers) == 0
    assert list(read_dead_letters(settings)) == []
    assert versions(settings, "assemble") == {(REPOSITORY_IDS["LaneState"], STATE_VERSION)}


def has_segment(settings: Settings) -> bool:
    segments = (CODEC.decode(message.value(), CallSegment) for message in records_of(settings, "call.segments"))
    return any(segment.kind == "segment" for segment in segments)


def lanes_of(settings: Settings, stage: str) -> set[str]:
    return {message.key().decode().rpartition("/")[2] for message in records_of(settings, f"{stage}-state-changelog")}
