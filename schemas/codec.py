"""Records to bytes and back, in the Confluent wire format.

A value is ``0x00``, a 4-byte big-endian schema id, and the Avro body (docs of Confluent Schema Registry, "Wire format").
Readers resolve the writer's schema against today's (Avro specification, "Schema Resolution").
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self, TypeVar

import fastavro
from fastavro.schema import to_parsing_canonical_form
from fastavro.types import Schema

from schemas import REPOSITORY_IDS, released_ids, released_schema_text, schema_text

MAGIC = 0
HEADER = struct.Struct(">bI")


class Record(Protocol):
    """A generated record of `schemas.records`."""

    def to_avro(self) -> dict[str, Any]:
        """Return the Avro value."""

    @classmethod
    def from_avro(cls, value: Mapping[str, Any]) -> Self:
        """Return the record of an Avro value."""


R = TypeVar("R", bound=Record)


class CodecError(ValueError):
    """The bytes are not a record of the expected kind. The text names what is wrong, never the content."""


class UnknownSchemaError(CodecError):
    """The schema id of a value is not known to the schema source."""


class SchemaSource(Protocol):
    """Where schema ids come from: the repository, or a registry."""

    def id_of(self, name: str) -> int:
        """Return the id under which record ``name`` (``CallAudio``) is written."""

    def schema_of(self, schema_id: int) -> str:
        """Return the JSON text of a writer's schema. Raises UnknownSchemaError."""

    def known_schema_of(self, schema_id: int) -> str | None:
        """Return what `schema_of` would, without waiting for anybody; None where somebody must be asked. Raises UnknownSchemaError."""


class RepositorySchemas:
    """Fixed ids from the repository, those of released versions included: no registry needed."""

    _names: ClassVar[dict[int, str]] = {number: name for name, number in REPOSITORY_IDS.items()}

    def id_of(self, name: str) -> int:
        """Return the fixed id of record ``name``."""
        return REPOSITORY_IDS[name]

    def schema_of(self, schema_id: int) -> str:
        """Return the schema with a fixed id. Raises UnknownSchemaError."""
        if schema_id in self._names:
            return schema_text(self._names[schema_id])
        if schema_id in released_ids():
            return released_schema_text(*released_ids()[schema_id])
        raise UnknownSchemaError(f"schema id {schema_id} is not one of this version's; a newer one may have written it")

    def known_schema_of(self, schema_id: int) -> str:
        """Return the schema with a fixed id. Raises UnknownSchemaError."""
        return self.schema_of(schema_id)


def _parse(text: str) -> Schema:
    return fastavro.parse_schema(json.loads(text))


class Codec:
    """Encodes and decodes records; parsed schemas are cached for ever.

    >>> from schemas.records import CallState
    >>> codec = Codec()
    >>> state = CallState(call_id="c1", state="live", feed_epoch=1, time_ms=0)
    >>> codec.decode(codec.encode(state), CallState) == state
    True
    """

    def __init__(self, source: SchemaSource | None = None) -> None:
        self._source: SchemaSource = source or RepositorySchemas()
        self._own: dict[str, tuple[bytes, Schema]] = {}
        self._writers: dict[tuple[int, str], tuple[Schema, Schema | None]] = {}

    def encode(self, record: Record) -> bytes:
        """Return the framed bytes of ``record``. Raises CodecError when a field does not fit its schema."""
        name = type(record).__name__
        if name not in self._own:
            self._own[name] = (HEADER.pack(MAGIC, self._source.id_of(name)), _parse(schema_text(name)))
        header, schema = self._own[name]
        out = io.BytesIO()
        out.write(header)
        try:
            fastavro.schemaless_writer(out, schema, record.to_avro())
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise CodecError(f"a {name} does not fit its schema: {type(error).__name__}") from error
        return out.getvalue()

    def decode(self, data: bytes | None, kind: type[R]) -> R:
        """Return the record of framed bytes. Raises CodecError (UnknownSchemaError for an unknown id)."""
        record = self._decode(data, kind, self._source.schema_of)
        assert record is not None
        return record

    def decode_known(self, data: bytes | None, kind: type[R]) -> R | None:
        """Return the record as `decode` does, but None where the schema source would have to ask somebody. Raises CodecError."""
        return self._decode(data, kind, self._source.known_schema_of)

    def _decode(self, data: bytes | None, kind: type[R], schema_of: Callable[[int], str | None]) -> R | None:
        if not data:
            raise CodecError("the value is empty")
        if len(data) < HEADER.size or data[0] != MAGIC:
            raise CodecError("the value is not Avro in the Confluent wire format (no magic byte)")
        schema_id = HEADER.unpack_from(data)[1]
        schemas = self._writers.get((schema_id, kind.__name__))
        if schemas is None:
            text = schema_of(schema_id)
            if text is None:
                return None
            schemas = self._writers[schema_id, kind.__name__] = self._resolution(schema_id, text, kind)
        writer, reader = schemas
        return _read(
            lambda body: fastavro.schemaless_reader(body, writer, reader), io.BytesIO(data[HEADER.size :]), kind
        )

    def _resolution(self, schema_id: int, text: str, kind: type[R]) -> tuple[Schema, Schema | None]:
        """Return the schema that values of ``schema_id`` were written with, and today's where that is another one.

        Resolving a schema against itself would double the time of reading.
        """
        try:
            writer = _parse(text)
        except Exception as error:  # anybody may register anything, and fastavro raises whatever that leads to
            raise CodecError(f"schema id {schema_id} is not readable Avro: {type(error).__name__}") from error
        if isinstance(writer, dict) and writer.get("name") != f"callscribe.{kind.__name__}":
            raise CodecError(f"the value is a {writer.get('name')}, not a callscribe.{kind.__name__}")
        reader = _reader(kind.__name__)
        return writer, None if to_parsing_canonical_form(writer) == to_parsing_canonical_form(reader) else reader


def encode_plain(record: Record) -> bytes:
    """Return the Avro body of ``record`` without framing, for values nested in another record."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _reader(type(record).__name__), record.to_avro())
    return out.getvalue()


def decode_plain(data: bytes, kind: type[R]) -> R:
    """Return the record of an unframed Avro body. Raises CodecError."""
    schema = _reader(kind.__name__)
    return _read(lambda body: fastavro.schemaless_reader(body, schema, None), io.BytesIO(data), kind)


def upgraded_plain(data: bytes, name: str, version: int) -> bytes:
    """Return the unframed body of a record ``name`` that release ``version`` wrote, as today's version writes it. Raises CodecError."""
    try:
        writer = _parse(released_schema_text(str(version), name))
        body = io.BytesIO(data)
        value = fastavro.schemaless_reader(body, writer, _reader(name))
        out = io.BytesIO()
        fastavro.schemaless_writer(out, _reader(name), value)
    except Exception as error:  # fastavro raises whatever broken bytes lead to
        raise CodecError(f"the value is not a {name} of release {version}: {type(error).__name__}") from error
    return out.getvalue()


_readers: dict[str, Schema] = {}


def _reader(name: str) -> Schema:
    if name not in _readers:
        _readers[name] = _parse(schema_text(name))
    return _readers[name]


def _read(read: Callable[[io.BytesIO], Any], body: io.BytesIO, kind: type[R]) -> R:
    try:
        value = read(body)
    except (
        Exception
    ) as error:  # fastavro raises EOFError, IndexError, UnicodeDecodeError, MemoryError, ... on broken bytes
        raise CodecError(f"the value is not a valid {kind.__name__}: {type(error).__name__}") from error
    if body.read(1):
        raise CodecError(f"the value has bytes after its {kind.__name__}")
    return kind.from_avro(value)
