"""The main job on a real broker: calls in, transcripts out, equal to the replay whatever happens to the processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from pipeline.demo import assets
from pipeline.demo.feeding import options_of
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import records
from pipeline.replay import Replay
from pipeline.runtime.call_state import CallOutlet
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.runtime.settings import Settings
from tests.integration.conftest import Kafka
from tests.integration.postgres import PostgresServer
from tests.integration.system import System, clip, replayed, running, wait_for, wait_for_words
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> tuple[assets.DemoCall, ...]:
    folder = tmp_path_factory.mktemp("calls")
    return tuple(clip(call, seconds, folder) for call, seconds in zip(assets.calls(), (40.0, 30.0, 25.0), strict=True))


@pytest.fixture(scope="module")
def expected(calls: tuple[assets.DemoCall, ...]) -> dict[str, dict[str, Any]]:
    replay = Replay(Settings())
    transcripts = {call.name: replayed(replay, call) for call in calls}
    assert all(len(transcript["segments"]) >= 5 for transcript in transcripts.values())
    return transcripts


@pytest.fixture(scope="module")
def system(kafka: Kafka) -> Iterator[System]:
    """All stages, one worker each, on one partition: calls share everything."""
    with running(kafka.ready(topics__partitions=1)) as running_system:
        yield running_system


def test_a_call_becomes_the_transcript_of_the_replay(system: System, calls: Any, expected: Any) -> None:
    system.feed([("whole", calls[0])])
    assert system.transcript("whole") == expected[calls[0].name]


def test_calls_interleaved_on_one_partition_do_not_disturb_each_other(
    system: System, calls: Any, expected: Any
) -> None:
    system.feed([(f"mixed-{call.name}", call) for call in calls])
    for call in calls:
        assert system.transcript(f"mixed-{call.name}") == expected[call.name]


def test_poison_goes_to_the_dead_letters_and_other_calls_are_unharmed(
    kafka: Kafka, system: System, calls: Any, expected: Any
) -> None:
    prefix = system.settings.topics.prefix
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    healthy = threading.Thread(target=system.feed, args=([("healthy", calls[1])],))
    healthy.start()
    outlet = CallOutlet(system.settings)
    delivery = outlet.delivery()
    with open_audio(calls[0].path, name="poisoned") as audio:
        fed = list(records(audio, options_of(calls[0], 0.2), call_id="poisoned", capture_start_ms=0))
    for record in fed[: len(fed) // 2]:
        delivery.send(record)
    delivery.wait()
    wait_for_words(system.settings, "poisoned")
    for name in ("call.audio", "call.speech", "call.annotations"):
        producer.produce(topic(name).full_name(prefix), key=b"poisoned", value=b"no avro at all", partition=0)
        producer.produce(topic(name).full_name(prefix), key=b"\xff", value=b"no call id as key", partition=0)
    assert producer.flush(10) == 0
    for record in fed[len(fed) // 2 :]:
        delivery.send(record)
    delivery.wait()
    outlet.close()
    healthy.join()
    assert system.transcript("healthy") == expected[calls[1].name]
    poisoned = system.transcript("poisoned")
    assert poisoned["segments"] == expected[calls[0].name]["segments"]
    reasons = {(item["stage"], item["reason"]) for item in poisoned["degraded"]}
    assert reasons >= {("vad", "CodecError"), ("asr", "CodecError"), ("assemble", "CodecError")}
    stages = {"vad", "asr", "diarize", "assemble"}
    wait_for(lambda: {letter.stage for letter in read_dead_letters(system.settings)} >= stages, 20, "dead letters")
    letters = list(read_dead_letters(system.settings))
    assert {letter.value for letter in letters if letter.call_id == "poisoned"} == {b"no avro at all"}
    assert any(letter.key == b"\xff" and letter.reason == "PoisonError" for letter in letters)


def test_a_language_no_model_knows_degrades_its_call_alone(system: System, calls: Any, expected: Any) -> None:
    healthy = threading.Thread(target=system.feed, args=([("beside-language", calls[1])],))
    healthy.start()
    outlet = CallOutlet(system.settings)
    delivery = outlet.delivery()
    options = replace(options_of(calls[2], 0.2), language="xx")
    with open_audio(calls[2].path, name="language") as audio:
        for record in records(audio, options, call_id="language", capture_start_ms=0):
            delivery.send(record)
    delivery.wait()
    outlet.close()
    healthy.join()
    assert system.transcript("beside-language") == expected[calls[1].name]
    unknown = system.transcript("language")
    assert unknown["segments"] == []
    assert {item["reason"] for item in unknown["degraded"]} == {"rejected_text:unknown_language"}


@pytest.mark.parametrize("stage", ["vad", "asr", "diarize", "assemble", "sink"])
def test_a_killed_worker_changes_nothing(system: System, calls: Any, expected: Any, stage: str) -> None:
    feeding = threading.Thread(
        target=system.feed, args=([(f"killed-{stage}", calls[2]), (f"beside-{stage}", calls[1])],)
    )
    feeding.start()
    wait_for_words(system.settings, f"killed-{stage}")
    system.kill(stage)
    feeding.join()
    assert system.transcript(f"killed-{stage}") == expected[calls[2].name]
    assert system.transcript(f"beside-{stage}") == expected[calls[1].name]


def test_two_workers_a_stage_and_postgresql(
    kafka: Kafka, postgres: PostgresServer, calls: Any, expected: Any, tmp_path: Path
) -> None:
    settings = kafka.ready(topics__partitions=4, store__url=postgres.socket_url)
    with running(settings, workers=2) as two:
        names = [(f"two-{number}-{call.name}", call) for number in range(2) for call in calls]
        feeding = threading.Thread(target=two.feed, args=(names,))
        feeding.start()
        wait_for_words(two.settings, names[0][0])
        two.kill("asr")
        feeding.join()
        for call_id, call in names:
            assert two.transcript(call_id) == expected[call.name]
