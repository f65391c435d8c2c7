from __future__ import annotations

import hashlib

import pytest

from pipeline.core.errors import PoisonError, UsageError
from pipeline.runtime.dead_letters import MAX_VALUE_BYTES, Coordinates, coordinates_of, dead_letter
from schemas.codec import Codec, CodecError
from schemas.records import DeadLetter


def letter(error: Exception, *, key: bytes | None = b"c1", value: bytes | None = b"content") -> DeadLetter:
    return dead_letter(
        stage="asr", error=error, topic="t.call.speech.v1", partition=3, offset=42, key=key, value=value, time_ms=7
    )


def test_a_dead_letter_keeps_the_record_and_where_it_came_from() -> None:
    found = letter(PoisonError("no samples"))
    assert found == DeadLetter(
        stage="asr",
        reason="PoisonError",
        detail="no samples",
        topic="t.call.speech.v1",
        partition=3,
        offset=42,
        key=b"c1",
        value=b"content",
        value_size=7,
        value_sha256=hashlib.sha256(b"content").hexdigest(),
        call_id="c1",
        time_ms=7,
    )
    assert Codec().decode(Codec().encode(found), DeadLetter) == found
    assert str(coordinates_of(found)) == "t.call.speech.v1/3/42"


@pytest.mark.parametrize(("extra", "is_kept"), [(0, True), (1, False)])
def test_a_value_above_512_kb_is_left_out(extra: int, is_kept: bool) -> None:
    value = bytes(MAX_VALUE_BYTES + extra)
    found = letter(CodecError("x"), value=value)
    assert (found.value == value) is is_kept
    assert found.value_size == len(value)
    assert found.value_sha256 == hashlib.sha256(value).hexdigest()


def test_the_text_of_a_foreign_error_is_left_out() -> None:
    found = letter(KeyError("my card number is"))
    assert (found.reason, found.detail) == ("KeyError", "")
    assert len(letter(PoisonError("x" * 9999)).detail) == 500


@pytest.mark.parametrize("key", [None, b"", b"no/call", b"\xff"])
def test_a_key_that_is_no_call_id_names_no_call(key: bytes | None) -> None:
    found = letter(PoisonError("x"), key=key)
    assert found.call_id is None
    assert found.key == key


def test_an_empty_record_has_an_empty_value() -> None:
    found = letter(CodecError("x"), value=None)
    assert (found.value, found.value_size) == (None, 0)


@pytest.mark.parametrize("text", ["", "topic", "topic/1", "topic/1/x", "topic/-1/2", "/1/2", "a/b/1/2", "t/1/²"])
def test_a_name_is_topic_partition_offset(text: str) -> None:
    with pytest.raises(UsageError, match="topic/partition/offset"):
        Coordinates.parse(text)
    assert Coordinates.parse("t.v1/1/2") == Coordinates("t.v1", 1, 2)
