"""Workers that stood still, states from before, records that kill: what a worker finds when it comes (back) to its partitions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer

from pipeline.core.entries import STATE_VERSION
from pipeline.core.ids import CALL_CHANNEL
from pipeline.demo import assets
from pipeline.runtime.attempts import Attempts
from pipeline.runtime.crash_points import VARIABLE
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.runtime.lane_states import PROGRESS, Progress
from pipeline.runtime.settings import Settings
from pipeline.stages import spec
from schemas.codec import Codec
from schemas.records import CallAnnotation, CallSegment, CallSpeech, LaneState
from tests.integration.conftest import Kafka
from tests.integration.feeds import HalfFed
from tests.integration.reading import committed, committed_offset, delete_records, is_marked, records_of, states_of
from tests.integration.system import System, environment_of, running, wait_for, wait_for_words
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECONDS = 60.0
CODEC = Codec()


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crashes")


@pytest.fixture(scope="module")
def system(kafka: Kafka, crashes: Path) -> Iterator[System]:
    settings = kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6)
    with running(settings, environment={VARIABLE: str(crashes)}) as running_system:
        yield running_system


@contextmanager
def another_worker(system: System, stage: str) -> Iterator[None]:
    """Run a second worker of the stage."""
    ready = system.settings.work_folder / "run" / f"{stage}-second.ready"
    with (system.settings.work_folder / "logs" / f"{stage}-second.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli.process", stage, "--status-file", str(ready)],
            env=environment_of(system.settings),
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize("stage", ["vad", "asr"])
def test_a_worker_that_stood_still_past_its_session_exits_before_it_writes(
    system: System, call: assets.DemoCall, expected: Any, stage: str
) -> None:
    settings, pid = system.settings, system.pid(stage)
    zombie = psutil.Process(pid)
    written = {"vad": "call.speech", "asr": "call.annotations"}[stage]
    feed = HalfFed(settings, call, f"zombie-{stage}")
    feed.first_half()
    feed.rest()  # there is work in its hands, and more to come
    os.kill(pid, signal.SIGSTOP)
    try:
        with another_worker(system, stage):
            assert system.transcript(feed.call_id) == expected
            wait_for(lambda: is_marked(settings, stage, feed.call_id), SECONDS, "the call's states are deleted")
            outputs, states = (len(records_of(settings, name)) for name in (written, f"{stage}-state-changelog"))
            os.kill(pid, signal.SIGCONT)
            wait_for(lambda: not zombie.is_running() or zombie.status() == psutil.STATUS_ZOMBIE, SECONDS, "it exits")
            assert are_repeats(settings, written, outputs, CallSpeech if stage == "vad" else CallAnnotation)
            late = records_of(settings, f"{stage}-state-changelog")[states:]
            assert all(Progress.parse(message.headers()) is not None for message in late)  # no restoration takes them
    finally:
        os.kill(pid, signal.SIGCONT) if zombie.is_running() else None
    log = (settings.work_folder / "logs" / f"{stage}-1.log").read_text(encoding="utf-8")
    assert "the process stood still for" in log


def are_repeats(settings: Settings, name: str, start: int, kind: type[Any]) -> bool:
    """Return whether what was written from ``start`` on was there before: librdkafka may have had it in its hands."""
    found = [CODEC.decode(message.value(), kind) for message in records_of(settings, name)]
    return all(record in found[:start] or record.kind == "tail" for record in found[start:])


@pytest.mark.parametrize(("stage", "dies"), [("vad", False), ("vad", True), ("asr", True), ("assemble", True)])
def test_a_state_from_before_has_its_input_read_again(
    system: System, call: assets.DemoCall, expected: Any, crashes: Path, stage: str, dies: bool
) -> None:
    """The newest state of a lane is gone (compaction took it, behind a zombie's): the worker reads from where the older one stands.

    ``dies``: and does so again, as it is killed when it has set the committed offset back.
    """
    settings, call_id = system.settings, f"stale-{stage}-{dies}"
    armed = crashes / f"{stage}.rewound"
    read, kind = spec(stage).input, spec(stage).reads
    feed = HalfFed(settings, call, call_id)
    feed.first_half()
    wait_for(
        lambda: bool(states_of(settings, call_id, 0, stage)), SECONDS, "a state is recorded"
    )  # words may be out before
    older = states_of(settings, call_id, 0, stage)[0]
    feed.up_to(0.9)
    needed = CODEC.decode(older, LaneState).needed_offset

    def is_released() -> bool:
        done = committed_offset(settings, stage, read) - needed
        found = [CODEC.decode(message.value(), kind) for message in records_of(settings, read, needed)[: max(0, done)]]
        return any((record.call_id, record.channel) == (call_id, 0) for record in found)

    wait_for(is_released, SECONDS, "what it needs is released")
    assert states_of(settings, call_id, 0, stage)[-1] != older
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    name = topic(f"{stage}-state-changelog").full_name(settings.topics.prefix)
    log = settings.work_folder / "logs" / f"{stage}-1.log"
    before = log.read_text(encoding="utf-8").count("a lane's state is older")
    if dies:
        armed.write_text("kill", encoding="ascii")
    system.kill(stage)  # the next one has yet to import its libraries, and nobody writes a newer state meanwhile
    producer.produce(
        name, key=f"{call_id}/0".encode(), value=older, partition=0
    )  # without a header nobody can tell its age
    assert producer.flush(10) == 0
    feed.rest()
    assert system.transcript(call_id) == expected
    assert not armed.exists()
    assert log.read_text(encoding="utf-8").count("a lane's state is older") == before + (not dies)


def test_an_older_build_refuses_the_states_of_a_newer_one_and_touches_nothing(
    system: System, call: assets.DemoCall, expected: Any
) -> None:
    settings = system.settings
    feed = HalfFed(settings, call, "newer")
    feed.first_half()
    wait_for(lambda: bool(states_of(settings, "newer", 0)), SECONDS, "a state is recorded")
    state = CODEC.decode(states_of(settings, "newer", 0)[-1], LaneState)
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    name = topic("vad-state-changelog").full_name(settings.topics.prefix)
    log = settings.work_folder / "logs" / "vad-1.log"
    newer = CODEC.encode(replace(state, call_id="of-a-newer-build", version=STATE_VERSION + 1))
    system.kill("vad")
    producer.produce(name, key=b"of-a-newer-build/0", value=newer, partition=0)
    assert producer.flush(10) == 0
    before = committed(settings, "vad", "call.audio"), len(records_of(settings, "vad-state-changelog"))
    refused = "the changelog was written by a newer version"
    wait_for(lambda: log.read_text(encoding="utf-8").count(refused) >= 2, SECONDS, "vad has refused it twice")
    assert before == (committed(settings, "vad", "call.audio"), len(records_of(settings, "vad-state-changelog")))
    producer.produce(name, key=b"of-a-newer-build/0", value=None, partition=0)
    assert producer.flush(10) == 0
    feed.rest()
    assert system.transcript("newer") == expected


def test_every_state_says_how_far_it_has_come(system: System, call: assets.DemoCall) -> None:
    system.feed([("headed", call)])
    system.transcript("headed")
    for message in records_of(system.settings, "vad-state-changelog"):
        if message.value() is not None and message.headers() is not None:
            assert Progress.parse(message.headers()) == Progress.of(CODEC.decode(message.value(), LaneState))
            assert [name for name, _ in message.headers()] == [PROGRESS]


def test_a_record_that_kills_the_process_goes_to_the_dead_letters(
    system: System, call: assets.DemoCall, expected: Any, crashes: Path
) -> None:
    settings = system.settings
    feed = HalfFed(settings, call, "killer")
    beside = HalfFed(settings, call, "beside-killer")
    feed.first_half()
    beside.first_half()
    end = len(records_of(settings, "call.speech"))
    offset = end + 7
    (crashes / "asr.decoded").write_text(f"kill at {offset}", encoding="ascii")
    restarts = system.supervisor.state.workers[1].restarts
    feed.rest()
    beside.rest()
    try:
        assert system.transcript("beside-killer")["segments"]
        found = system.transcript("killer")
    finally:
        (crashes / "asr.decoded").unlink()
    letters = [one for one in read_dead_letters(settings) if one.stage == "asr" and one.offset == offset]
    assert [letter.reason for letter in letters] == ["CondemnedError"]
    record = CODEC.decode(records_of(settings, "call.speech", offset)[0].value(), CallSpeech)
    hit = {"killer": found, "beside-killer": system.transcript("beside-killer")}
    assert [item["reason"] for item in hit[record.call_id]["degraded"]] == ["CondemnedError"]
    (other,) = hit.keys() - {record.call_id}
    assert hit[other] == expected
    died = next(worker for worker in system.supervisor.state.workers if worker.stage == "asr").restarts - restarts
    assert 4 <= died <= 7  # condemned, it kills once more where it is decoded


def test_kills_while_somebody_speaks_are_no_records_fault(kafka: Kafka, call: assets.DemoCall, expected: Any) -> None:
    """The feed is quiet in the middle of a word: what the worker reads again after each kill ends in the same open utterance."""
    settings = kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6)
    with running(settings) as system:
        feed = HalfFed(settings, call, "quiet")
        feed.up_to(0.4)
        wait_for_words(settings, "quiet")
        end = len(records_of(settings, "call.speech"))
        assert committed_offset(settings, "asr", "call.speech") < end - 1

        def is_back() -> bool:
            found = Attempts.parse(committed(settings, "asr", "call.speech")[1])
            return all(one.is_ready for one in system.supervisor.state.workers) and found.in_hand is None

        for _ in range(settings.runtime.max_deaths + 2):
            system.kill("asr")
            wait_for(is_back, SECONDS, "nothing is in hand")
        feed.rest()
        assert system.transcript("quiet") == expected
        assert list(read_dead_letters(settings)) == []


def test_a_record_that_kills_the_sink_goes_to_the_dead_letters(
    system: System, call: assets.DemoCall, expected: Any, crashes: Path
) -> None:
    settings = system.settings
    feed = HalfFed(settings, call, "sinking")
    feed.first_half()
    offset = len(records_of(settings, "call.segments")) + 5
    (crashes / "sink.decoded").write_text(f"kill at {offset}", encoding="ascii")
    restarts = system.supervisor.state.workers[-1].restarts
    feed.rest()
    try:
        found = system.transcript("sinking")
    finally:
        (crashes / "sink.decoded").unlink()
    letters = [one for one in read_dead_letters(settings) if one.stage == "sink"]
    assert [(letter.offset, letter.reason) for letter in letters] == [(offset, "CondemnedError")]
    assert [item["reason"] for item in found["degraded"]] == ["CondemnedError"]
    lost = CODEC.decode(records_of(settings, "call.segments", offset)[0].value(), CallSegment)
    kept = [one["text"] for one in expected["segments"] if lost.segment is None or one["text"] != lost.segment.text]
    assert [one["text"] for one in found["segments"]] == kept
    worker = next(one for one in system.supervisor.state.workers if one.stage == "sink")
    assert 4 <= worker.restarts - restarts <= 6


def test_what_a_stage_writes_again_of_an_ended_call_changes_nothing(
    system: System, call: assets.DemoCall, expected: Any
) -> None:
    """It died behind its last outputs, and came back when the next stage had let the call go."""
    settings = system.settings
    system.feed([("again", call)])
    assert system.transcript("again") == expected
    wait_for(lambda: is_marked(settings, "assemble", "again"), SECONDS, "the call's states are deleted")
    segments, letters = len(records_of(settings, "call.segments")), len(list(read_dead_letters(settings)))
    repeats = [one for one in records_of(settings, "call.annotations") if one.key() == b"again"]
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    name = topic("call.annotations").full_name(settings.topics.prefix)
    for message in repeats:
        if CODEC.decode(message.value(), CallAnnotation).stage == "diarize":
            producer.produce(name, key=message.key(), value=message.value(), partition=0)
    assert producer.flush(10) == 0
    end = len(records_of(settings, "call.annotations"))
    wait_for(lambda: committed_offset(settings, "assemble", "call.annotations") == end, SECONDS, "nothing is held")
    assert len(records_of(settings, "call.segments")) == segments
    assert len(list(read_dead_letters(settings))) == letters

    delete_records(settings, "call.annotations", end)
    key = f"again/{CALL_CHANNEL}".encode()
    wait_for(lambda: last_state(settings, "assemble", key) is None, 2 * SECONDS, "the mark goes with the records")


def last_state(settings: Settings, stage: str, key: bytes) -> bytes | None:
    return [one.value() for one in records_of(settings, f"{stage}-state-changelog") if one.key() == key][-1]
