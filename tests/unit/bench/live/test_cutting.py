from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.live.cutting import Slot, avro_long, cut, opening, value
from pipeline.ingest.chunks import CallDescription, Control, Feed
from schemas.codec import Codec
from schemas.records import CallAudio, Channel, Dtmf, Hold

CODEC = Codec()
STARTED_MS = 1_764_000_000_123


def a_call() -> Iterator[CallAudio]:
    """Yield a call with control records, 0.2 s a record."""
    channels = tuple(
        Channel(channel=index, role=role, sample_rate_hz=8_000, encoding="mulaw")
        for index, role in enumerate(("agent", "customer"))
    )
    feed = Feed(CallDescription(call_id="other", channels=channels, capture_start_ms=0, attributes={"queue": "sales"}))
    yield from feed.start()
    yield from feed.push([bytes(range(256)) * 10, bytes(2560)])
    yield from feed.control(Control(kind="hold", body=Hold(active=True)))
    yield from feed.control(Control(kind="dtmf", body=Dtmf(digits="5")))
    yield from feed.push([b"\x7f" * 1600, b"\xff" * 1600])
    yield from feed.end()


@pytest.mark.parametrize("call_id", ["c", "live-0001", "x" * 128])
def test_a_value_is_what_the_codec_writes(call_id: str) -> None:
    records = list(a_call())
    cut_records = [record for slot in cut(records, CODEC) for record in slot.records]
    assert len(cut_records) == len(records) > 8
    for record, found in zip(records, cut_records, strict=True):
        wanted = replace(record, call_id=call_id, capture_time_ms=STARTED_MS + record.capture_time_ms)
        assert value(opening(call_id, CODEC), found, STARTED_MS) == CODEC.encode(wanted)
        assert found.kind == record.kind.encode()


@given(st.integers(0, 2**62))
def test_numbers_are_written_as_avro_does(number: int) -> None:
    record = CallAudio(
        call_id="", kind="", channel=0, sequence=number, start_sample=0, sample_rate_hz=0, capture_time_ms=0
    )
    before = len(CODEC.encode(replace(record, sequence=0)))
    encoded = CODEC.encode(record)
    assert encoded[8 : 8 + len(avro_long(number))] == avro_long(number)  # frame, empty id, empty kind, channel 0
    assert len(encoded) == before + len(avro_long(number)) - 1


def test_records_are_due_when_their_last_sample_is_captured() -> None:
    slots: tuple[Slot, ...] = cut(a_call(), CODEC)
    assert [(slot.due_seconds, [record.kind for record in slot.records]) for slot in slots] == [
        (0.0, [b"started"]),
        (0.2, [b"audio", b"audio"]),
        (0.32, [b"audio", b"audio", b"hold", b"dtmf"]),
        (0.4, [b"audio", b"audio"]),
        (0.52, [b"audio", b"audio", b"ended"]),
    ]
