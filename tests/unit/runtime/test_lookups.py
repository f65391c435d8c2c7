"""Schemas that a worker has not met yet: asked for beside the event loop, and waited for while the registry is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.runtime.lookups import MAX_REQUESTS, Lookups
from schemas import schema_text
from schemas.codec import Codec, CodecError, UnknownSchemaError
from schemas.records import CallState
from schemas.registry import Registry, RegistrySchemas
from tests.unit.schemas.registry_server import RegistryServer

SUBJECT = "callscribe.call.state.v1-value"
STATE = CallState(call_id="c1", state="live", feed_epoch=1, time_ms=0)
AWAY = (503, b"")


@pytest.fixture
def codec(server: RegistryServer) -> Iterator[Codec]:
    """A codec that has met no schema yet."""
    server.store(SUBJECT, schema_text("CallState"))
    with Registry(server.url) as registry:
        yield Codec(RegistrySchemas(registry, {"CallState": (SUBJECT,)}))


def garbage(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big")


async def until(condition: threading.Event) -> None:
    async with asyncio.timeout(10):
        while not condition.is_set():  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.001)


def test_what_is_known_is_decoded_at_once(server: RegistryServer, codec: Codec) -> None:
    data = codec.encode(STATE)
    codec.decode(data, CallState)
    server.failure = AWAY
    coroutine = Lookups(codec).decode(data, CallState)
    with pytest.raises(StopIteration) as returned:  # without one turn of an event loop
        coroutine.send(None)
    assert returned.value.value == STATE


@pytest.mark.parametrize("data", [None, b"", b"\xff no avro", garbage(2**31)])
def test_what_needs_no_schema_is_refused_at_once(codec: Codec, data: bytes | None) -> None:
    with pytest.raises(CodecError):
        Lookups(codec).decode(data, CallState).send(None)


def test_many_calls_that_meet_an_id_ask_once(server: RegistryServer, codec: Codec) -> None:
    data = codec.encode(STATE)
    server.requests.clear()

    async def work() -> None:
        lookups = Lookups(codec)
        assert await asyncio.gather(*(lookups.decode(data, CallState) for _ in range(50))) == [STATE] * 50
        refused = await asyncio.gather(
            *(lookups.decode(garbage(77), CallState) for _ in range(50)), return_exceptions=True
        )
        assert {type(error) for error in refused} == {UnknownSchemaError}

    asyncio.run(work())
    assert [path for _, path in server.requests] == ["/schemas/ids/1", "/schemas/ids/77"]


def test_a_registry_that_is_away_is_waited_for_and_told_once(
    server: RegistryServer, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    data = codec.encode(STATE)
    known = codec.encode(replace(STATE, call_id="known"))
    server.requests.clear()
    server.failure = AWAY

    async def work() -> None:
        lookups = Lookups(codec, first_retry_seconds=0.01)
        waiting = [asyncio.create_task(lookups.decode(value, CallState)) for value in (data, garbage(77))]
        async with asyncio.timeout(10):
            while len(server.requests) < 6:  # noqa: ASYNC110 - grows in a thread
                await asyncio.sleep(0.001)
        assert not any(task.done() for task in waiting)
        server.failure = None
        assert await waiting[0] == STATE
        with pytest.raises(UnknownSchemaError):
            await waiting[1]
        server.failure = AWAY
        assert await lookups.decode(known, CallState) == replace(STATE, call_id="known")

    with caplog.at_level(logging.WARNING, logger="callscribe.worker"):
        asyncio.run(work())
    assert [record.getMessage() for record in caplog.records] == [
        f"the schema registry {server.url} answers HTTP 503: calls with a schema that is not known yet wait for it"
    ]


def test_the_wait_ends_with_its_call(server: RegistryServer, codec: Codec) -> None:
    data = codec.encode(STATE)
    server.failure = AWAY

    async def work() -> None:
        lookups = Lookups(codec, first_retry_seconds=0.01)
        first, second = (asyncio.create_task(lookups.decode(data, CallState)) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        server.failure = None
        assert await second == STATE

    asyncio.run(work())


def test_a_registry_that_hangs_holds_up_neither_the_loop_nor_its_end() -> None:
    is_asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=2 * MAX_REQUESTS) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                for _ in range(MAX_REQUESTS):
                    stack.enter_context(listener.accept()[0])
                is_asked.set()
                listener.accept()[0].close()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        registry = Registry(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=5.0)
        lookups = Lookups(Codec(RegistrySchemas(registry, {})))

        async def work() -> None:
            waiting = [
                asyncio.create_task(lookups.decode(garbage(number), CallState)) for number in range(2 * MAX_REQUESTS)
            ]
            await until(is_asked)
            began = time.monotonic()
            for _ in range(100):
                await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert all(task.cancelled() for task in waiting)
            assert time.monotonic() - began < 2.0

        began = time.monotonic()
        asyncio.run(work())
        assert time.monotonic() - began < 4.0
        asking = [thread for thread in threading.enumerate() if thread.name == "lookup"]
        assert len(asking) == MAX_REQUESTS
        assert all(thread.daemon for thread in asking)
        socket.create_connection(listener.getsockname()).close()  # lets go of the requests
        accepting.join(5)
        for thread in asking:
            thread.join(5)
        registry.close()
