"""How calls have started, looked up in call.state: one read serves many calls, within bounds, and an absent broker is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.core.errors import NotReadyError
from pipeline.runtime import starts as module
from pipeline.runtime.settings import Settings
from pipeline.runtime.starts import CallStarts
from schemas.codec import Codec
from schemas.records import CallState, Channel, Started

CODEC = Codec()


class Message:
    """A record of call.state."""

    def __init__(self, call_id: str, value: bytes | None) -> None:
        self._key, self._value = call_id.encode(), value

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes | None:
        return self._value


class Broker:
    """call.state with one partition; ``failures`` reads fail before one succeeds."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.reads = 0
        self.failures = 0

    @contextmanager
    def state_records(self, settings: Settings, call_id: str, *, since: int = 0) -> Iterator[tuple[int, Any]]:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise NotReadyError("the broker is away")
        yield 1, iter(self.messages)

    def put(self, call_id: str, role: str | None, *, padding: int = 0) -> None:
        started = None if role is None else started_as(role, padding)
        state = CallState(call_id=call_id, state="live", feed_epoch=1, time_ms=0, started=started)
        self.messages.append(Message(call_id, CODEC.encode(state)))


def started_as(role: str, padding: int = 0) -> Started:
    channel = Channel(channel=0, role=role, sample_rate_hz=8_000, encoding="mulaw", language=None)
    return Started(channels=(channel,), prompt="x" * padding)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(module, "state_records", broker.state_records)
    return broker


def made() -> CallStarts:
    return CallStarts(Settings(), CODEC, first_retry_seconds=0.001)


def test_the_latest_state_counts_and_one_read_serves_many(broker: Broker) -> None:
    broker.put("a", "agent")
    broker.put("b", "mixed")
    broker.put("a", "customer")
    broker.put("older", None)
    broker.put("gone", "mixed")
    broker.messages.append(Message("gone", None))
    broker.messages.append(Message("junk", b"no avro"))
    starts = made()
    assert [starts.look_up(one) for one in ("a", "b")] == [started_as("customer"), started_as("mixed")]
    assert [starts.look_up(one) for one in ("older", "gone", "junk", "unheard")] == [None] * 4
    assert broker.reads == 1


def test_what_was_read_long_ago_is_read_again(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = made()
    assert starts.look_up("a") is None
    broker.put("a", "agent")
    assert starts.look_up("a") is None
    monkeypatch.setattr(module, "KEPT_SECONDS", -1.0)
    assert starts.look_up("a") == started_as("agent")
    assert broker.reads == 2


def test_what_does_not_fit_is_read_when_it_is_asked_for(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 3_000)
    for number in range(10):
        broker.put(f"c{number}", "agent", padding=900)
    starts = made()
    for number in (0, 9, 0, 8):
        assert starts.look_up(f"c{number}") == started_as("agent", 900)
    assert broker.reads == 1
    assert starts.look_up("c5") == started_as("agent", 900)
    assert broker.reads == 2
    assert sum(kept.size for kept in starts._kept.values()) <= 3_000


def test_calls_wait_for_the_broker_and_share_one_read(broker: Broker) -> None:
    broker.put("a", "agent")
    broker.failures = 3

    async def work() -> list[Started | None]:
        starts = made()
        return await asyncio.gather(*(starts.find(call_id) for call_id in ("a", "b", "a", "c")))

    assert asyncio.run(work()) == [started_as("agent"), None, started_as("agent"), None]
    assert broker.reads == 4
