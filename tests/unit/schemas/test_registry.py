from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli import schemas as commands
from pipeline.core.errors import FailedError, NotReadyError, UsageError
from pipeline.runtime.provisioning import schema_source, subjects
from pipeline.runtime.settings import SchemaSettings, Settings
from schemas import REPOSITORY_IDS, schema_text
from schemas import registry as module
from schemas.codec import Codec, CodecError, RepositorySchemas, UnknownSchemaError
from schemas.records import CallState
from schemas.registry import (
    IncompatibleSchemaError,
    NotRegisteredError,
    Registry,
    RegistryRefusedError,
    RegistrySchemas,
    RegistryUnreachableError,
)
from topics import load

from .registry_server import RegistryServer

SUBJECT = "callscribe.call.state.v1-value"
STATE = CallState(call_id="c1", state="live", feed_epoch=1, time_ms=0)


@pytest.fixture
def registry(server: RegistryServer) -> Iterator[Registry]:
    with Registry(server.url) as registry:
        yield registry


def _without_default() -> str:
    schema = json.loads(schema_text("CallState"))
    schema["fields"].append({"name": "added", "type": "string"})
    return json.dumps(schema)


def test_register_is_idempotent_and_ids_number_contents(registry: Registry) -> None:
    first = registry.register(SUBJECT, schema_text("CallState"))
    assert registry.register(SUBJECT, schema_text("CallState")) == first
    assert registry.register("other/subject-value", schema_text("CallState")) == first
    assert registry.id_of("other/subject-value", schema_text("CallState")) == first
    assert json.loads(registry.schema_of(first)) == json.loads(schema_text("CallState"))


def test_what_is_not_there_is_said(registry: Registry) -> None:
    with pytest.raises(NotRegisteredError, match=SUBJECT):
        registry.id_of(SUBJECT, schema_text("CallState"))
    registry.register(SUBJECT, schema_text("DeadLetter"))
    with pytest.raises(NotRegisteredError, match=SUBJECT):
        registry.id_of(SUBJECT, schema_text("CallState"))
    with pytest.raises(UnknownSchemaError, match="schema id 77 is not in the registry"):
        registry.schema_of(77)


def test_compatibility_is_asked_before_and_enforced_at_registration(registry: Registry) -> None:
    assert registry.compatibility(SUBJECT, schema_text("CallState")).is_compatible
    registry.register(SUBJECT, schema_text("CallState"))
    assert registry.compatibility(SUBJECT, schema_text("CallState")).is_compatible
    answer = registry.compatibility(SUBJECT, _without_default())
    assert not answer.is_compatible
    assert answer.messages == ("new field added has no default",)
    with pytest.raises(IncompatibleSchemaError, match="added has no default"):
        registry.register(SUBJECT, _without_default())


def test_only_self_contained_avro_is_read(registry: Registry, server: RegistryServer) -> None:
    number = registry.register(SUBJECT, schema_text("CallState"))
    server.schema_types[number] = "JSON"
    with pytest.raises(UnknownSchemaError, match="not a self-contained Avro schema"):
        registry.schema_of(number)


def test_a_codec_writes_and_reads_with_the_registry_and_asks_once(registry: Registry, server: RegistryServer) -> None:
    server.store("filler", '{"type": "record", "name": "x", "fields": []}')
    number = registry.register(SUBJECT, schema_text("CallState"))
    server.requests.clear()
    writer = Codec(RegistrySchemas(registry, {"CallState": (SUBJECT,)}))
    data = [writer.encode(STATE) for _ in range(3)][-1]
    assert int.from_bytes(data[1:5], "big") == number != REPOSITORY_IDS["CallState"]
    source = RegistrySchemas(registry, {"CallState": (SUBJECT,)})
    for reader in (Codec(source), Codec(source)):
        assert reader.decode(data, CallState) == STATE
    assert [path for _, path in server.requests] == [f"/subjects/{SUBJECT}", f"/schemas/ids/{number}"]


def test_preload_leaves_nothing_to_ask(registry: Registry, server: RegistryServer) -> None:
    names = subjects("callscribe")
    for record, found in names.items():
        for subject in found:
            registry.register(subject, schema_text(record))
    source = RegistrySchemas(registry, names)
    source.preload()
    server.requests.clear()
    codec = Codec(source)
    assert codec.decode(codec.encode(STATE), CallState) == STATE
    assert server.requests == []


def test_an_outage_is_no_fault_of_the_record_and_is_not_remembered(server: RegistryServer, registry: Registry) -> None:
    number = registry.register(SUBJECT, schema_text("CallState"))
    source = RegistrySchemas(registry, {"CallState": (SUBJECT,)})
    for failure in ((500, b'{"error_code": 50001, "message": "backend"}'), (200, b"<html>"), (404, b""), (200, b"[]")):
        server.failure = failure
        with pytest.raises(RegistryUnreachableError) as caught:
            source.schema_of(number)
        assert not isinstance(caught.value, CodecError)
    server.failure = None
    assert json.loads(source.schema_of(number)) == json.loads(schema_text("CallState"))


def test_an_id_that_the_registry_does_not_know_is_asked_for_once_a_minute(
    server: RegistryServer, registry: Registry
) -> None:
    now = 1000.0
    source = RegistrySchemas(registry, {"CallState": (SUBJECT,)}, clock=lambda: now)
    codec, garbage = Codec(source), b"\0\0\0\0\x01"
    assert codec.decode_known(garbage, CallState) is None
    for second in range(60):
        now = 1000.0 + second
        with pytest.raises(UnknownSchemaError, match="schema id 1 is not in the registry"):
            codec.decode(garbage, CallState)
        with pytest.raises(UnknownSchemaError, match="schema id 1 is not in the registry"):
            codec.decode_known(garbage, CallState)
    assert len(server.requests) == 1
    registry.register(SUBJECT, schema_text("CallState"))
    now = 1060.0
    data = codec.encode(STATE)
    assert codec.decode_known(data, CallState) is None
    assert codec.decode(data, CallState) == codec.decode_known(data, CallState) == STATE


def test_of_unknown_ids_only_so_many_are_remembered(
    server: RegistryServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNKNOWN", 3)
    now = 0.0
    source = RegistrySchemas(registry, {}, clock=lambda: now)
    for schema_id in (1, 2, 3, 4, 4, 3):
        with pytest.raises(UnknownSchemaError):
            source.schema_of(schema_id)
    assert len(server.requests) == 4
    assert list(source._unknown) == [2, 3, 4]
    now = 61.0
    with pytest.raises(UnknownSchemaError):
        source.schema_of(5)
    assert list(source._unknown) == [5]


def test_what_can_be_no_id_is_not_asked_for(server: RegistryServer, registry: Registry) -> None:
    """A registry in Java answers a number that is no int with a 404 that looks like an outage."""
    codec = Codec(RegistrySchemas(registry, {}))
    for decode in (codec.decode, codec.decode_known):
        with pytest.raises(UnknownSchemaError, match="no registry gives schema id 2147483648"):
            decode(b"\0\x80\0\0\0", CallState)
    assert server.requests == []


def test_a_writer_waits_for_its_registry(server: RegistryServer) -> None:
    settings = Settings(schemas=SchemaSettings(registry_url=server.url))
    server.failure = (503, b"")
    with pytest.raises(NotReadyError, match="answers HTTP 503"):
        schema_source(settings, is_writer=True)
    server.failure = None
    with pytest.raises(NotReadyError, match="is not registered"):
        schema_source(settings, is_writer=True)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}"
    with Registry(url) as registry, pytest.raises(RegistryUnreachableError, match="ConnectError") as caught:
        registry.schema_of(1)
    assert "secret" not in str(caught.value)


def test_a_registry_that_hangs_is_given_up() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Registry(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2) as registry,
        pytest.raises(RegistryUnreachableError, match="ReadTimeout"),
    ):
        registry.schema_of(1)


def test_basic_authentication() -> None:
    server = RegistryServer(username="u", password="p:w")
    try:
        with Registry(server.url, username="u", password="p:w") as registry:
            registry.register(SUBJECT, schema_text("CallState"))
        with (
            Registry(server.url, username="u", password="wrong") as registry,
            pytest.raises(RegistryRefusedError) as caught,
        ):
            registry.id_of(SUBJECT, schema_text("CallState"))
        assert "HTTP 401" in str(caught.value)
        assert "wrong" not in str(caught.value)
    finally:
        server.stop()


def test_the_source_follows_the_settings(server: RegistryServer, registry: Registry) -> None:
    assert isinstance(schema_source(Settings()), RepositorySchemas)
    registry.register(SUBJECT, schema_text("CallState"))
    source = schema_source(Settings(schemas=SchemaSettings(registry_url=server.url)))
    assert isinstance(source, RegistrySchemas)
    codec = Codec(source)
    assert codec.decode(codec.encode(STATE), CallState) == STATE
    source.close()


def test_every_topic_has_a_subject() -> None:
    found = subjects("p")
    assert sorted(name for names in found.values() for name in names) == sorted(
        f"{t.full_name('p')}-value" for t in load()
    )
    assert set(found) == set(REPOSITORY_IDS)


def _call(*arguments: str, **environment: str) -> tuple[str, BaseException | None]:
    app = typer.Typer()
    commands.register(app)
    result = CliRunner().invoke(app, ["schemas", *arguments], env=environment)
    return result.stdout, result.exception


def test_the_commands(server: RegistryServer, registry: Registry) -> None:
    environment = {"CALLSCRIBE_SCHEMAS__REGISTRY_URL": server.url}

    def rows(text: str) -> list[dict[str, Any]]:
        return list(json.loads(text)["schemas"])

    text, error = _call("check", "--json", **environment)
    assert {row["state"] for row in rows(text)} == {"missing"}
    assert isinstance(error, FailedError)
    text, error = _call("register", "--json", **environment)
    assert len(rows(text)) == len(load())
    assert error is None
    text, error = _call("check", "--json", **environment)
    assert {row["state"] for row in rows(text)} == {"registered"}
    assert error is None


def test_check_names_what_breaks_compatibility(server: RegistryServer) -> None:
    server.store(SUBJECT, '{"type": "record", "name": "CallState", "namespace": "callscribe", "fields": []}')
    text, error = _call("check", CALLSCRIBE_SCHEMAS__REGISTRY_URL=server.url)
    assert f"{SUBJECT}: CallState incompatible (new field call_id has no default)" in text
    assert isinstance(error, FailedError)
    assert "1 of 10 schemas break" in str(error)
    assert isinstance(_call("register", CALLSCRIBE_SCHEMAS__REGISTRY_URL=server.url)[1], FailedError)


def test_commands_without_a_registry() -> None:
    assert isinstance(_call("check", CALLSCRIBE_SCHEMAS__REGISTRY_URL="")[1], UsageError)
    assert isinstance(_call("check", CALLSCRIBE_SCHEMAS__REGISTRY_URL="http://127.0.0.1:1")[1], NotReadyError)
    assert isinstance(_call("check", CALLSCRIBE_SCHEMAS__REGISTRY_URL="no url")[1], NotReadyError)
