from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sink.exports import FORMATS
from pipeline.sink.logic import plan
from pipeline.sink.stores import open_store
from pipeline.sink.transcript import Transcript
from schemas.codec import Codec
from schemas.records import CallSegment
from tests.unit.sink.records_of_calls import corrected_call, degraded, segment, speakers, started, whole_call


def test_the_document_has_the_shape_of_the_contract() -> None:
    document = Transcript.from_records(whole_call()).to_document()
    assert list(document) == ["call_id", "state", "duration_seconds", "channels", "segments", "gaps", "degraded"]
    assert document["channels"][0] == {"channel": 0, "role": "agent", "language": "en"}
    assert document["segments"][0] == {
        "segment_id": "c1/0/3360",
        "revision": 0,
        "channel": 0,
        "role": "agent",
        "speaker": "agent",
        "start_seconds": 0.42,
        "end_seconds": 1.37,
        "text": "Thank you for calling.",
        "language": "en",
        "model": "demo@abc",
        "policy": "alignatt",
        "words": [
            {"text": "Thank", "start_seconds": 0.42, "end_seconds": 0.62, "probability": 0.98},
            {"text": "you", "start_seconds": 0.67, "end_seconds": 0.87, "probability": 0.98},
            {"text": "for", "start_seconds": 0.92, "end_seconds": 1.12, "probability": 0.98},
            {"text": "calling.", "start_seconds": 1.17, "end_seconds": 1.37, "probability": 0.98},
        ],
    }
    assert document["gaps"] == [
        {"channel": 0, "start_seconds": 9.0, "end_seconds": 9.4, "reason": "missing_audio"},
    ]
    assert document["degraded"] == [{"channel": 1, "start_seconds": 2.0, "stage": "asr", "reason": "PoisonError"}]


def test_speakers_of_mixed_channels_are_in_the_document_where_there_are_any() -> None:
    document = Transcript.from_records(corrected_call()).to_document()
    assert document["speakers"] == [
        {
            "channel": 0,
            "speaker": "speaker_1",
            "role": "agent",
            "name": "Ann",
            "rule": "enrolment",
            "spoken_seconds": 1.95,
        },
        {
            "channel": 0,
            "speaker": "speaker_2",
            "role": "customer",
            "name": None,
            "rule": "first",
            "spoken_seconds": 0.2,
        },
    ]
    assert [one["speaker"] for one in document["segments"]] == ["speaker_1", "speaker_2", "speaker_1"]
    for records in (whole_call(), [*whole_call(), speakers()]):
        assert "speakers" not in Transcript.from_records(records).to_document()


def test_people_are_shown_the_name_or_the_role() -> None:
    known = (("a", "agent", "Ann", 1.0), ("b", "customer", None, 1.0), ("c", None, None, 1.0))
    found = Transcript.from_records([speakers(*known)]).names
    assert found == {(0, "a"): "Ann", (0, "b"): "customer"}
    shared = Transcript.from_records([speakers(*known, ("d", "customer", None, 1.0))]).names
    assert shared == {(0, "a"): "Ann", (0, "b"): "customer (b)", (0, "d"): "customer (d)"}


def test_segments_are_in_reading_order_and_a_correction_replaces() -> None:
    segments = Transcript.from_records(whole_call()).segments
    assert [(one.start_seconds, one.channel) for one in segments] == [(0.42, 0), (1.1, 0), (1.2, 1)]
    assert segments[2].text == "Hi, my bill is strong."
    assert segments[2].revision == 1


def test_two_segments_that_start_together_are_ordered_by_channel() -> None:
    found = Transcript.from_records([segment(channel=1, start=800), segment(channel=0, start=800)])
    assert [one.channel for one in found.segments] == [0, 1]


def test_the_place_of_a_rejected_record_may_be_unknown() -> None:
    found = Transcript.from_records([degraded(channel=-1, sample_rate_hz=0, start_sample=0)])
    assert found.degraded[0].start_seconds is None


@pytest.mark.parametrize("records", [[], [started("a"), started("b")]])
def test_it_is_about_one_call(records: list[CallSegment]) -> None:
    with pytest.raises(ValueError, match="records"):
        Transcript.from_records(records)


def on_the_wire(record: CallSegment) -> CallSegment:
    codec = Codec()
    return codec.decode(codec.encode(record), CallSegment)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), batch_size=st.integers(1, 8), call=st.sampled_from([whole_call, corrected_call]))
def test_store_and_records_give_the_same_text_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, seed: int, batch_size: int, call: Callable[[], list[CallSegment]]
) -> None:
    """Whatever was read twice: the store's transcript is that of the records, which never were on the wire."""
    chance = random.Random(seed)
    repeated = call()
    for _ in range(chance.randrange(4)):
        start = chance.randrange(len(repeated))
        end = min(len(repeated), start + chance.randrange(1, 10))
        repeated[end:end] = repeated[start:end]  # a crash before the commit: the same records come again
    folder: Path = tmp_path_factory.mktemp("store")
    store = open_store("", folder)
    for start in range(0, len(repeated), batch_size):
        store.write(plan(on_the_wire(record) for record in repeated[start : start + batch_size]))
    stored = store.read("c1")
    store.close()
    assert stored is not None
    from_store, from_records = Transcript.from_stored(stored), Transcript.from_records(call())
    assert {name: to(from_store) for name, to in FORMATS.items()} == {n: to(from_records) for n, to in FORMATS.items()}
