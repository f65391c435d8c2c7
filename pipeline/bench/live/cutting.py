"""The records of call.audio, cut and encoded before the clock starts.

A record on the wire is the Avro encoding of its fields in the order of the schema (Avro specification, "Binary encoding":
a record is the concatenation of its fields). Calls that feed the same audio differ in ``call_id``, the first field, and in
``capture_time_ms`` alone, so everything else is encoded once and shared.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import fastavro
from fastavro.types import Schema

from pipeline.ingest.chunks import SAMPLE_BYTES
from schemas import schema_text
from schemas.codec import HEADER, Codec
from schemas.records import CallAudio

STAMP = "capture_time_ms"


@dataclass(frozen=True, slots=True)
class CutRecord:
    """One record without call id and capture time: the encoded fields between the two, and those behind the latter.

    ``offset_ms`` is the capture time counted from the start of the call. ``kind`` goes into the header of that name.
    """

    before: bytes
    behind: bytes
    offset_ms: int
    kind: bytes


@dataclass(frozen=True, slots=True)
class Slot:
    """Records that are due together: when ``due_seconds`` of the call have been captured."""

    due_seconds: float
    records: tuple[CutRecord, ...]


def cut(records: Iterable[CallAudio], codec: Codec) -> tuple[Slot, ...]:
    """Return the records of one call, whose capture times count from 0, by the time they are due."""
    slots: list[tuple[float, list[CutRecord]]] = []
    for record in records:
        due = _end_seconds(record)
        if not slots or due > slots[-1][0]:
            slots.append((due, []))
        slots[-1][1].append(_cut(record, codec))
    return tuple(Slot(due, tuple(found)) for due, found in slots)


def opening(call_id: str, codec: Codec) -> bytes:
    """Return what every value of a call begins with: the frame of the wire format, and the call's id."""
    record = CallAudio(
        call_id=call_id, kind="", channel=0, sequence=0, start_sample=0, sample_rate_hz=0, capture_time_ms=0
    )
    return codec.encode(record)[: HEADER.size] + _encoded("string", call_id)


def value(opened: bytes, record: CutRecord, capture_start_ms: int) -> bytes:
    """Return the bytes of a record of the call that `opening` began, captured from ``capture_start_ms`` on."""
    return b"".join((opened, record.before, avro_long(capture_start_ms + record.offset_ms), record.behind))


def avro_long(number: int) -> bytes:
    """Return the Avro encoding of a number that is not negative: zig-zag, then seven bits a byte, lowest first.

    >>> avro_long(0), avro_long(64).hex()
    (b'\\x00', '8001')
    """
    rest = number << 1
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _cut(record: CallAudio, codec: Codec) -> CutRecord:
    whole = codec.encode(record)
    before = _encoded(_middle(), record.to_avro())
    start = HEADER.size + len(_encoded("string", record.call_id)) + len(before)
    return CutRecord(
        before=before,
        behind=whole[start + len(avro_long(record.capture_time_ms)) :],
        offset_ms=record.capture_time_ms,
        kind=record.kind.encode("ascii"),
    )


def _encoded(schema: Schema, data: object) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, data)
    return out.getvalue()


@cache
def _middle() -> Schema:
    """Return the schema of the fields between the call's id and the capture time."""
    fields = json.loads(schema_text("CallAudio"))["fields"]
    names = [field["name"] for field in fields]
    return fastavro.parse_schema(
        {"type": "record", "name": "Middle", "fields": fields[names.index("call_id") + 1 : names.index(STAMP)]}
    )


def _end_seconds(record: CallAudio) -> float:
    samples = 0 if record.audio is None else len(record.audio.data) // SAMPLE_BYTES[record.audio.encoding]
    return (record.start_sample + samples) / record.sample_rate_hz
