"""Every kind of poison, in every topic that a stage reads, in the middle of a call: one dead letter a stage, and nothing else changes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, Producer

from pipeline.demo import assets
from pipeline.demo.feeding import options_of
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import records
from pipeline.runtime.call_state import CallOutlet
from pipeline.runtime.dead_letters import MAX_KEY_BYTES, MAX_VALUE_BYTES, TOPIC, Coordinates, coordinates_of
from pipeline.runtime.read import read_to_end
from pipeline.runtime.settings import Settings
from pipeline.sink.coverage import coverage_of
from pipeline.sink.stores.base import DegradedRow, StoredCall
from schemas import records as envelopes
from schemas.codec import Codec
from schemas.records import Audio, DeadLetter, Gap, Speech
from tests.integration.feeds import HalfFed
from tests.integration.reading import committed_offset, records_of, stored_call, stored_calls
from tests.integration.system import System, environment_of, wait_for
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECONDS = 60.0
CODEC = Codec()
FIVE_MEGABYTES = 5 * 1024 * 1024
FAR = 2**40  # a sequence that no repeat has; numbers below 2^48 are accepted
READERS = {
    "call.audio": ("vad",),
    "call.speech": ("asr", "diarize"),
    "call.annotations": ("assemble",),
    "call.segments": ("sink",),
}

KEYS = {"no_call_id": b"\xff", "large_key": b"k" * FIVE_MEGABYTES}
ANYWHERE = ("no_avro", "unknown_schema", "another_schema", "no_value", "five_megabytes", *KEYS)
OUT_OF_PLACE = ("wrong_channel", "absurd_position", "negative_position", "another_call")
AUDIO = ("odd_bytes", "unknown_encoding", "no_samples", "ten_minutes")
KINDS = {
    "call.audio": (*ANYWHERE, *OUT_OF_PLACE, *AUDIO),
    "call.speech": (*ANYWHERE, *OUT_OF_PLACE, "half_a_sample"),
    "call.annotations": (*ANYWHERE, *OUT_OF_PLACE),
    "call.segments": ANYWHERE,  # what is out of place there: test_the_sink_refuses_what_is_out_of_place
}
UNDECODABLE = {
    "no_avro": "CodecError",
    "unknown_schema": "UnknownSchemaError",
    "another_schema": "CodecError",
    "no_value": "CodecError",
}


@dataclass(frozen=True, kw_only=True)
class Poison:
    """A record that no stage can use. ``reasons`` are those of the stages that reject it."""

    name: str
    key: bytes
    value: bytes | None
    reasons: dict[str, str]
    headers: dict[str, bytes]

    @classmethod
    def of(cls, name: str, kind: str, call_id: str, other: str = "") -> Poison:
        """Return poison for the topic ``name`` with the key of a call; ``other`` is the call that a wrong key hides."""
        stages = READERS[name]
        headers = {}
        if kind == "half_a_sample":  # diarize looks at no audio, and knows by the header that it need not
            stages, headers = ("asr",), {"diarize": b"skip"}
        reason = UNDECODABLE.get(kind, "PoisonError")
        if kind == "five_megabytes":
            reason = "UnknownSchemaError"
        elif kind in KEYS and name == "call.segments":
            reason = "CodecError"  # the sink reads the value first
        return cls(
            name=name,
            key=KEYS.get(kind, call_id.encode()),
            value=value_of(name, kind, call_id, other),
            reasons=dict.fromkeys(stages, reason),
            headers=headers,
        )


def value_of(name: str, kind: str, call_id: str, other: str) -> bytes | None:
    plain = {
        "no_avro": b"\xff no avro",
        **dict.fromkeys(KEYS, b"no call id as key"),
        "unknown_schema": b"\0\0\x0f\xff\xff no schema",
        "no_value": None,
        "five_megabytes": bytes(FIVE_MEGABYTES),
    }
    if kind in plain:
        return plain[kind]
    if kind == "another_schema":
        return CODEC.encode(envelopes.CallState(call_id=call_id, state="live", feed_epoch=1, time_ms=0))
    start = {"absurd_position": 2**60, "far_position": 2**47, "negative_position": -1}.get(kind, 0)
    body: dict[str, Any] = {"kind": "gap", "gap": Gap(end_sample=max(start, 0) + FAR, reason="poison")}
    if kind in AUDIO:
        encoding = {"odd_bytes": "pcm_s16le", "unknown_encoding": "opus"}.get(kind, "mulaw")
        size = {"no_samples": 0, "ten_minutes": FIVE_MEGABYTES}.get(kind, 801)
        body = {"kind": "audio", "audio": Audio(encoding=encoding, data=b"\x55" * size)}
    if kind == "half_a_sample":
        speech = Speech(utterance=2**20, audio=b"\x55" * 801, is_first=True, is_last=False, speech_end_sample=0)
        body = {"kind": "speech", "speech": speech}
    if name == "call.audio":
        body["feed_epoch"] = 1 if kind == "far_position" else 2**30  # which would take the call from its feed
    if name == "call.annotations":
        body["stage"] = "asr"
    envelope = getattr(envelopes, topic(name).schema)
    return CODEC.encode(
        envelope(
            call_id=other if kind == "another_call" else call_id,
            channel=999 if kind == "wrong_channel" else 0,
            sequence=FAR,
            start_sample=start,
            sample_rate_hz=8000,
            capture_time_ms=0,
            **body,
        )
    )


def write(settings: Settings, poisons: Sequence[Poison]) -> dict[Coordinates, Poison]:
    """Write poison to its topics; return where each lies."""
    places: dict[Coordinates, Poison] = {}
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "message.max.bytes": 8 * 1024 * 1024})
    for poison in poisons:

        def hear(error: KafkaError | None, message: Message, poison: Poison = poison) -> None:
            assert error is None
            places[Coordinates(message.topic(), message.partition(), message.offset())] = poison

        name = topic(poison.name).full_name(settings.topics.prefix)
        producer.produce(
            name, key=poison.key, value=poison.value, headers=poison.headers, partition=0, on_delivery=hear
        )
    assert producer.flush(30) == 0
    return places


def letters_of(settings: Settings) -> list[DeadLetter]:
    """Return every record of the dead-letter topic, repeats too."""
    name = TOPIC.full_name(settings.topics.prefix)
    return [CODEC.decode(message.value(), DeadLetter) for message in read_to_end(settings, name)]


def expected_letters(places: dict[Coordinates, Poison]) -> Counter[DeadLetter]:
    return Counter(
        DeadLetter(
            stage=stage,
            reason=reason,
            detail="",
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
            key=poison.key if len(poison.key) <= MAX_KEY_BYTES else None,
            value=poison.value if len(poison.value or b"") <= MAX_VALUE_BYTES else None,
            value_size=len(poison.value or b""),
            value_sha256=hashlib.sha256(poison.value or b"").hexdigest(),
            call_id=None if poison.key in KEYS.values() else poison.key.decode(),
            time_ms=0,
        )
        for place, poison in places.items()
        for stage, reason in poison.reasons.items()
    )


def comparable(letters: Sequence[DeadLetter]) -> Counter[DeadLetter]:
    """Return letters without their texts and times."""
    assert all(letter.detail and letter.time_ms > 0 for letter in letters)
    return Counter(replace(letter, detail="", time_ms=0) for letter in letters)


def marks(letters: Sequence[DeadLetter], call_id: str) -> Counter[tuple[str, ...]]:
    """Return how the letters should mark a call, by stage, reason and place."""
    return Counter(
        (letter.stage, letter.reason, str(coordinates_of(letter))) for letter in letters if letter.call_id == call_id
    )


def marks_of(degraded: Sequence[DegradedRow]) -> Counter[tuple[str, ...]]:
    return Counter((row.stage, row.reason, str(Coordinates(row.topic, row.partition, row.offset))) for row in degraded)


def whole(system: System, call_id: str) -> StoredCall:
    found = stored_call(system.settings, call_id)
    assert coverage_of(found).problems == ()
    return found


def requeue(settings: Settings, places: Sequence[Coordinates]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "dead-letters", "requeue", *map(str, places)]
    return subprocess.run(
        command, env=environment_of(settings), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def at_rest(system: System, call: assets.DemoCall) -> str:
    """A call that is in the store as a whole."""
    system.feed([("at-rest", call)])
    system.transcript("at-rest")
    return "at-rest"


@pytest.mark.parametrize("name", KINDS)
def test_poison_in_the_middle_of_a_call(
    system: System, call: assets.DemoCall, expected: dict[str, Any], name: str
) -> None:
    settings, before, poisoned, beside = system.settings, system.processes(), f"into-{name}", f"beside-{name}"
    feeds = [HalfFed(settings, call, call_id) for call_id in (poisoned, beside)]
    known = len(letters_of(settings))
    for feed in feeds:
        feed.first_half()
    places = write(settings, [Poison.of(name, kind, poisoned, beside) for kind in KINDS[name]])
    owed = expected_letters(places)
    wait_for(lambda: len(letters_of(settings)) >= known + owed.total(), SECONDS, "every stage has rejected the poison")
    for feed in feeds:
        feed.rest()
    assert system.transcript(beside) == expected
    assert system.transcript(poisoned) | {"degraded": []} == expected
    assert marks_of(whole(system, poisoned).degraded) == marks(list(owed), poisoned)
    whole(system, beside)
    assert comparable(letters_of(settings)[known:]) == owed
    assert system.processes() == before


def test_a_position_that_no_call_can_have_reached_is_refused(
    system: System, call: assets.DemoCall, expected: dict[str, Any]
) -> None:
    feed = HalfFed(system.settings, call, "far")
    feed.first_half()
    places = write(system.settings, [Poison.of("call.audio", "far_position", "far")])
    feed.rest()
    assert system.transcript("far") | {"degraded": []} == expected
    assert marks_of(whole(system, "far").degraded) == marks(list(expected_letters(places)), "far")


@pytest.mark.parametrize("kind", OUT_OF_PLACE)
def test_the_sink_refuses_what_is_out_of_place(system: System, at_rest: str, kind: str) -> None:
    settings, before, known = system.settings, whole(system, at_rest), len(letters_of(system.settings))
    places = write(settings, [Poison.of("call.segments", kind, at_rest, "bystander")])
    (place,) = places
    wait_for(lambda: committed_offset(settings, "sink", "call.segments") > place.offset, SECONDS, "the sink goes on")
    after = whole(system, at_rest)
    assert replace(after, degraded=before.degraded) == before
    assert "bystander" not in stored_calls(settings)
    owed = expected_letters(places)
    assert comparable(letters_of(settings)[known:]) == owed
    assert marks_of(after.degraded) == marks_of(before.degraded) + marks(list(owed), at_rest)


def test_a_requeued_record_that_nobody_can_use_is_rejected_again(
    system: System, call: assets.DemoCall, expected: dict[str, Any]
) -> None:
    settings, before, call_id = system.settings, system.processes(), "requeued"
    feed = HalfFed(settings, call, call_id)
    known = len(letters_of(settings))
    feed.first_half()
    poisons = [Poison.of(name, "no_avro", call_id) for name in READERS]
    places = write(settings, [*poisons, Poison.of("call.speech", "half_a_sample", call_id)])
    owed = expected_letters(places)
    wait_for(lambda: len(letters_of(settings)) >= known + owed.total(), SECONDS, "every stage has rejected the poison")
    feed.rest()
    assert system.transcript(call_id) | {"degraded": []} == expected
    was = whole(system, call_id)

    done = requeue(settings, list(places))
    assert done.returncode == 0
    assert done.stderr.strip() == "requeued 5; what a call has gone past is dropped by the stages"
    again: dict[Coordinates, Poison] = {}
    for place, poison in places.items():
        first, *repeats = [
            message
            for message in records_of(settings, poison.name, place.offset)
            if (message.key(), message.value()) == (poison.key, poison.value)
        ]
        assert first.offset() == place.offset
        assert (
            len(repeats) == 1
        )  # although asr and diarize have both rejected what was in call.speech, but for half a sample
        again[replace(place, offset=repeats[0].offset())] = poison
    owed_again = expected_letters(again)
    count = known + owed.total() + owed_again.total()
    wait_for(lambda: len(letters_of(settings)) >= count, SECONDS, "every stage has rejected it again")
    assert comparable(letters_of(settings)[known:]) == owed + owed_again
    assert system.processes() == before
    after = whole(system, call_id)
    assert replace(after, degraded=was.degraded) == was
    # The stages have said that the call has ended; the sink alone can still mark it.
    told = [letter for letter in owed_again if letter.stage == "sink"]
    assert marks_of(after.degraded) == marks_of(was.degraded) + marks(told, call_id)


def test_nothing_is_requeued_where_a_value_was_not_kept(system: System) -> None:
    settings, known = system.settings, len(letters_of(system.settings))
    places = write(settings, [Poison.of("call.audio", kind, "nobody") for kind in ("no_avro", "five_megabytes")])
    wait_for(lambda: len(letters_of(settings)) >= known + 2, SECONDS, "vad has rejected both")
    end = len(records_of(settings, "call.audio"))
    done = requeue(settings, list(places))
    assert done.returncode == 2
    assert f"({FIVE_MEGABYTES} bytes) was too large to be kept" in done.stderr
    assert len(records_of(settings, "call.audio")) == end
    assert "nobody" not in stored_calls(settings)


def test_a_record_that_came_too_early_is_used_when_it_is_requeued(
    system: System, call: assets.DemoCall, expected: dict[str, Any]
) -> None:
    settings, call_id, known = system.settings, "early", len(letters_of(system.settings))
    with open_audio(call.path, name=call_id) as audio:
        fed = list(records(audio, options_of(call, 0.2), call_id=call_id, capture_start_ms=0))
    at = len(fed) // 2
    outlet = CallOutlet(settings)
    delivery = outlet.delivery()
    try:
        delivery.send(fed[at])
        delivery.wait()
        wait_for(lambda: len(letters_of(settings)) > known, SECONDS, "vad has rejected it")
        for record in fed[:at]:
            delivery.send(record)
        delivery.wait()
        (letter,) = letters_of(settings)[known:]
        assert (letter.stage, letter.reason, letter.call_id) == ("vad", "PoisonError", call_id)
        assert requeue(settings, [coordinates_of(letter)]).returncode == 0
        for record in fed[at + 1 :]:
            delivery.send(record)
        delivery.wait()
    finally:
        outlet.close()
    assert system.transcript(call_id) == expected
    whole(system, call_id)
    assert letters_of(settings)[known:] == [letter]
