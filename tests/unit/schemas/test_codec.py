from __future__ import annotations

import io
import json
import struct
from dataclasses import fields, replace
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas
from schemas import records
from schemas.codec import Codec, CodecError, RepositorySchemas, UnknownSchemaError, decode_plain, encode_plain
from schemas.release import examples

CODEC = Codec()
EXAMPLES = dict(examples())
BOUNDED = settings(max_examples=60, deadline=None, derandomize=True, database=None)
STATE = records.CallState(call_id="c1", state="live", feed_epoch=1, next_sequence={"0": 3}, time_ms=5)


@pytest.mark.parametrize("record", EXAMPLES.values(), ids=EXAMPLES)
def test_every_record_comes_back(record: Any) -> None:
    assert CODEC.decode(CODEC.encode(record), type(record)) == record


def test_the_wire_format_is_confluent_s() -> None:
    data = CODEC.encode(STATE)
    assert struct.unpack(">bI", data[:5]) == (0, schemas.REPOSITORY_IDS["CallState"])
    schema = fastavro.parse_schema(json.loads(schemas.schema_text("CallState")))
    body = fastavro.schemaless_reader(io.BytesIO(data[5:]), schema, None)
    assert body == STATE.to_avro()


def test_plain_bodies_come_back() -> None:
    lane = records.DiarizeLane(engine="channel", has_written=True)
    assert decode_plain(encode_plain(lane), records.DiarizeLane) == lane
    with pytest.raises(CodecError, match="DiarizeLane"):
        decode_plain(b"", records.DiarizeLane)
    with pytest.raises(CodecError, match="after"):
        decode_plain(encode_plain(lane) + b"x", records.DiarizeLane)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\0", "no magic byte"),
        (b"{}    ", "no magic byte"),
        (b"\0\0\0\0\x09", "schema id 9 is not"),
        (CODEC.encode(STATE)[:-1], "not a valid CallState"),
        (CODEC.encode(STATE) + b"\0", "bytes after its CallState"),
        (CODEC.encode(EXAMPLES["CallAudio.audio"]), "not a callscribe.CallState"),
    ],
)
def test_bytes_that_are_no_record(data: bytes | None, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        CODEC.decode(data, records.CallState)


def test_an_unknown_schema_is_told_apart() -> None:
    with pytest.raises(UnknownSchemaError):
        CODEC.decode(b"\0\0\0\0\x09rest", records.CallState)


@BOUNDED
@given(body=st.binary(max_size=200), name=st.sampled_from(sorted(schemas.REPOSITORY_IDS)))
def test_arbitrary_bytes_are_a_codec_error(body: bytes, name: str) -> None:
    kind = getattr(records, name)
    try:
        record = CODEC.decode(struct.pack(">bI", 0, schemas.REPOSITORY_IDS[name]) + body, kind)
    except CodecError:
        return
    assert isinstance(record, kind)


def test_an_error_never_quotes_the_value() -> None:
    body = b"what the customer said"
    with pytest.raises(CodecError) as error:
        CODEC.decode(struct.pack(">bI", 0, schemas.REPOSITORY_IDS["CallState"]) + body, records.CallState)
    assert "customer" not in str(error.value)


@BOUNDED
@given(data=st.data(), record=st.sampled_from(list(EXAMPLES.values())))
def test_a_damaged_record_is_a_codec_error_or_a_record(data: st.DataObject, record: Any) -> None:
    body = bytearray(CODEC.encode(record))
    index = data.draw(st.integers(5, len(body) - 1))
    body[index] ^= data.draw(st.integers(1, 255))
    try:
        CODEC.decode(bytes(body), type(record))
    except CodecError:
        return


@pytest.mark.parametrize("value", [None, "text", 2**70])
def test_a_field_that_does_not_fit_is_named_by_record(value: Any) -> None:
    with pytest.raises(CodecError, match="a CallState does not fit"):
        CODEC.encode(replace(STATE, feed_epoch=value))


def test_ids_may_come_from_elsewhere() -> None:
    class Registry:
        def id_of(self, name: str) -> int:
            return 900_000

        def schema_of(self, schema_id: int) -> str:
            assert schema_id == 900_000
            return schemas.schema_text("CallState")

    data = Codec(Registry()).encode(STATE)
    assert data[1:5] == (900_000).to_bytes(4, "big")
    assert Codec(Registry()).decode(data, records.CallState) == STATE
    with pytest.raises(UnknownSchemaError):
        CODEC.decode(data, records.CallState)


@pytest.mark.parametrize("text", ["no json", '"nobody"', '{"type": "record", "name": "no name", "fields": []}', "[]"])
def test_what_others_have_registered_harms_nobody(text: str) -> None:
    class Theirs(RepositorySchemas):
        def schema_of(self, schema_id: int) -> str:
            return text

    for decode in (Codec(Theirs()).decode, Codec(Theirs()).decode_known):
        with pytest.raises(CodecError):
            decode(b"\0\0\0\0\x01junk", records.CallState)


def test_a_writer_with_an_unknown_field_is_read() -> None:
    """A newer writer: its additions are passed over (Avro specification, "Schema Resolution")."""

    class Newer:
        def id_of(self, name: str) -> int:
            return 1

        def schema_of(self, schema_id: int) -> str:
            schema = json.loads(schemas.schema_text("CallState"))
            schema["fields"].insert(1, {"name": "mood", "type": "string"})
            return json.dumps(schema)

    writer = fastavro.parse_schema(json.loads(Newer().schema_of(1)))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, writer, STATE.to_avro() | {"mood": "fine"})
    assert Codec(Newer()).decode(b"\0\0\0\0\x01" + out.getvalue(), records.CallState) == STATE


def test_ids_are_fixed_and_apart() -> None:
    source = RepositorySchemas()
    for name, number in schemas.REPOSITORY_IDS.items():
        assert source.id_of(name) == number
        assert source.schema_of(number) == schemas.schema_text(name)
    assert len(set(schemas.REPOSITORY_IDS.values())) == len(schemas.REPOSITORY_IDS)


def test_examples_fill_every_field_of_every_envelope() -> None:
    """The round trips above would not notice a field that no example sets."""
    for name in schemas.REPOSITORY_IDS:
        made = [record for record in EXAMPLES.values() if type(record).__name__ == name]
        for item in fields(getattr(records, name)):
            assert any(getattr(record, item.name) not in (None, {}) for record in made), f"{name}.{item.name}"
