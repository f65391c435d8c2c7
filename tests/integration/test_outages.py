"""What is outside goes away and comes back: broker, leader, store, topic, records. Nothing is lost, no worker loops, status says so."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from pipeline.cli.up import _status
from pipeline.core.errors import NotReadyError
from pipeline.demo import assets
from pipeline.runtime import produce
from pipeline.runtime.broker import EmbeddedBroker
from pipeline.runtime.broker.state import read_state
from pipeline.runtime.lag import stage_lags
from pipeline.runtime.provisioning import apply_topics
from pipeline.runtime.settings import Settings
from pipeline.runtime.supervise import GRACE_SECONDS
from pipeline.sink.coverage import coverage_of
from pipeline.sink.stores import FILE
from tests.integration.conftest import Kafka
from tests.integration.feeds import HalfFed
from tests.integration.postgres import PostgresServer
from tests.integration.reading import delete_records, records_of, states_of, stored_call
from tests.integration.system import System, environment_of, running, wait_for
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECONDS = 60.0
SESSION_SECONDS = 6
AWAY_SECONDS = 9.0  # longer than the session


def restarts(system: System) -> dict[str, int]:
    """Return how often each worker has ended."""
    return {worker.name: worker.restarts for worker in system.supervisor.state.workers}


def is_undisturbed(system: System) -> bool:
    """Tell whether no worker has ended, but for the sink once: librdkafka may fence itself behind a coordinator that was away."""
    return all(count <= name.startswith("sink") for name, count in restarts(system).items())


def problems(settings: Settings) -> str:
    return "; ".join(_status(settings)["problems"])


@contextlib.contextmanager
def own_broker(folder: Path, nodes: int) -> Iterator[tuple[EmbeddedBroker, Settings]]:
    """Run a broker that may be hurt."""
    settings = Settings.model_validate(
        {
            "broker": {"compiler": "quick"},
            "kafka": {"session_timeout_seconds": SESSION_SECONDS},
            "topics": {"embedded_partitions": 1},
            "runtime": {"work_folder": str(folder)},
        }
    )
    broker = EmbeddedBroker(settings, nodes=nodes)
    broker.start()
    try:
        apply_topics(settings)
        yield broker, settings
    finally:
        broker.stop()


def test_the_broker_is_away_for_longer_than_a_session(tmp_path: Path, call: assets.DemoCall, expected: Any) -> None:
    with own_broker(tmp_path, 1) as (broker, settings), running(settings) as system:
        for how, call_id in (("stop", "stopped"), ("kill", "killed")):
            feed = HalfFed(settings, call, call_id)
            feed.first_half()
            if how == "stop":
                broker.stop()
            else:
                for pid in broker.status().pids:
                    os.kill(pid, signal.SIGKILL)
            gone = time.monotonic()
            assert not _status(settings)["is_ready"]
            wait_for(lambda since=gone: time.monotonic() - since > AWAY_SECONDS, SECONDS, "the session is over")  # type: ignore[misc]
            broker.start()
            feed.rest()
            assert system.transcript(call_id) == expected
        assert is_undisturbed(system)
        assert problems(settings) == ""


def test_a_leader_dies_and_another_takes_its_partitions(tmp_path: Path, call: assets.DemoCall, expected: Any) -> None:
    with own_broker(tmp_path, 3) as (broker, settings), running(settings) as system:
        feed = HalfFed(settings, call, "moved")
        feed.first_half()
        name = topic("call.audio").full_name(settings.topics.prefix)
        admin = AdminClient({"bootstrap.servers": broker.status().bootstrap_servers})
        leader = admin.list_topics(name, timeout=10).topics[name].partitions[0].leader
        state = read_state(broker.status().data)
        assert state is not None
        os.kill(next(node.pid or 0 for node in state.nodes if node.node_id == leader), signal.SIGKILL)
        system.kill("sink")  # who starts while a node is away finds the others
        feed.rest()
        assert system.transcript("moved") == expected
        broker.start()
        after = HalfFed(settings, call, "mended")
        after.first_half()
        after.rest()
        assert system.transcript("mended") == expected


def test_a_stop_while_the_broker_is_away_is_bounded_and_loses_nothing(
    tmp_path: Path, call: assets.DemoCall, expected: Any
) -> None:
    with own_broker(tmp_path, 1) as (broker, settings), running(settings) as system:
        feed = HalfFed(settings, call, "stopped")
        feed.first_half()
        command = [str(Path(sys.executable).with_name("callscribe")), "ingest", str(call.path), "--speed", "real"]
        feeding = subprocess.Popen(command, env=environment_of(settings), stderr=subprocess.DEVNULL)
        wait_for(lambda: len(records_of(settings, "call.state")) > 1, SECONDS, "the other feed has taken its call")
        broker.stop()
        assert stop_workers(system) <= {0, 1}  # nobody was killed
        assert stopped_seconds(feeding) < GRACE_SECONDS
        broker.start()
        feed.rest()
        assert system.transcript("stopped") == expected


def test_the_disk_of_the_broker_is_full(
    tmp_path: Path, call: assets.DemoCall, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operating system refuses every write behind a file size (setrlimit(2)): Kafka takes it for a broken disk and stops."""
    monkeypatch.setattr(produce, "DELIVERY_SECONDS", AWAY_SECONDS)
    with own_broker(tmp_path, 1) as (broker, settings), running(settings) as system:
        before, during = HalfFed(settings, call, "before"), HalfFed(settings, call, "during")
        before.first_half()
        during.first_half()
        (node,) = (psutil.Process(pid) for pid in broker.status().pids)
        name = topic("call.audio").full_name(settings.topics.prefix)
        (log,) = broker.status().data.rglob(f"{name}-0/*.log")
        node.rlimit(psutil.RLIMIT_FSIZE, (log.stat().st_size + 8_000, psutil.RLIM_INFINITY))
        with pytest.raises(NotReadyError, match=f"topic {name}: the broker has acknowledged nothing for"):
            during.rest()
        node.wait(SECONDS)
        assert not _status(settings)["broker"]["is_running"]
        broker.start()  # without a limit: somebody has made room
        before.rest()
        assert system.transcript("before") == expected
        rest = HalfFed(settings, call, "during", take_over=True)
        rest.rest()
        found = system.transcript("during")
        assert (found["state"], found["gaps"], words_of(found)) == ("complete", [], words_of(expected))
        assert is_undisturbed(system)


def stopped_seconds(process: subprocess.Popen[bytes]) -> float:
    """Send SIGTERM; return how long the process took to end."""
    began = time.monotonic()
    process.terminate()
    process.wait(SECONDS)
    return time.monotonic() - began


def stop_workers(system: System) -> set[int | None]:
    """Send SIGTERM to every worker; returns how they ended when each has, in time, and the supervisor has started another."""
    processes = [psutil.Process(worker.pid) for worker in system.supervisor.state.workers]
    before = restarts(system)
    began = time.monotonic()
    for process in processes:
        process.terminate()
    assert psutil.wait_procs(processes, timeout=GRACE_SECONDS)[1] == []
    assert time.monotonic() - began < GRACE_SECONDS
    wait_for(lambda: restarts(system).items().isdisjoint(before.items()), SECONDS, "every worker is started again")
    return {worker.last_exit for worker in system.supervisor.state.workers}


@pytest.fixture(scope="module")
def system(kafka: Kafka, postgres: PostgresServer) -> Iterator[System]:
    settings = kafka.ready(
        topics__partitions=1, kafka__session_timeout_seconds=SESSION_SECONDS, store__url=postgres.socket_url
    )
    with running(settings) as running_system:
        yield running_system


def test_the_store_is_away_and_then_read_only(
    system: System, postgres: PostgresServer, call: assets.DemoCall, expected: Any
) -> None:
    before = restarts(system)
    feed = HalfFed(system.settings, call, "away")
    feed.first_half()
    postgres.stop()
    feed.rest()
    log = system.settings.work_folder / "logs" / "sink-1.log"
    wait_for(lambda: "trying again" in log.read_text(encoding="utf-8"), SECONDS, "the sink says so")
    assert "store postgresql" in problems(system.settings)
    wait_for(lambda: _lag(system, "sink") > 0, SECONDS, "lag of the sink is visible")
    postgres.start()
    assert system.transcript("away") == expected

    _set_read_only(postgres, "on")
    try:
        feed = HalfFed(system.settings, call, "unwritten")
        feed.first_half()
        feed.rest()
        said = "in a read-only transaction; trying again"
        wait_for(lambda: said in log.read_text(encoding="utf-8"), SECONDS, "the sink says so")
        assert "in a read-only transaction" in problems(system.settings)
    finally:
        _set_read_only(postgres, "off")
    assert problems(system.settings) == ""
    assert system.transcript("unwritten") == expected
    assert restarts(system) == before


def _lag(system: System, stage: str) -> int:
    return next(
        worker["lag_records"] or 0 for worker in _status(system.settings)["workers"] if worker["stage"] == stage
    )


def _set_read_only(postgres: PostgresServer, value: str) -> None:
    with psycopg.connect(postgres.socket_url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("SET transaction_read_only = off")
        connection.execute(f"ALTER DATABASE postgres SET default_transaction_read_only = {value}")  # type: ignore[arg-type]
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = 'postgres'"
        )


def test_records_that_were_deleted_before_they_were_read_are_a_gap(
    kafka: Kafka, system: System, call: assets.DemoCall, expected: Any
) -> None:
    """As when a stage was down for longer than its topic keeps records."""
    settings = system.settings
    feed = HalfFed(settings, call, "overtaken")
    feed.first_half()
    wait_for(lambda: bool(states_of(settings, "overtaken", -1)), SECONDS, "vad remembers the call")
    vad = system.pid("vad")
    os.kill(vad, signal.SIGSTOP)
    try:
        feed.up_to(0.75)
        delete_records(settings, "call.audio")
        feed.rest()
    finally:
        os.kill(vad, signal.SIGKILL)
    found = system.transcript("overtaken")
    assert {(gap["channel"], gap["reason"]) for gap in found["gaps"]} >= {
        (0, "deleted_records"),
        (1, "deleted_records"),
    }
    account = coverage_of(stored_call(settings, "overtaken"))
    assert account.problems == ()
    assert all(channel.totals["gap"] > 0 for channel in account.channels)
    heard, said = words_of(found), words_of(expected)
    assert heard
    first_gap = min(gap["start_seconds"] for gap in found["gaps"])
    assert {word for word in heard if word[1] < first_gap - 2} <= said


def test_a_stage_that_nears_the_retention_of_its_topic_is_named(kafka: Kafka) -> None:
    settings = kafka.ready(topics__partitions=1)
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for name, hours in (("call.audio", 11), ("call.speech", 13), ("call.segments", 16 * 24)):
        stamp = round((time.time() - hours * 3600) * 1000)
        producer.produce(topic(name).full_name(settings.topics.prefix), b"x", timestamp=stamp)
    assert producer.flush(10) == 0
    told = {stage: lag.problem for stage, lag in stage_lags(settings).items()}
    assert {stage for stage, problem in told.items() if problem} == {"asr", "diarize", "sink"}
    assert (
        told["asr"] == "stage asr is 13.0 h behind, and call.speech keeps records for 24 h: what is older will be a gap"
    )


def test_a_stop_in_the_middle_of_a_backlog_is_bounded_and_orderly(
    kafka: Kafka, call: assets.DemoCall, expected: Any
) -> None:
    settings = kafka.ready(topics__partitions=1)
    feed = HalfFed(settings, call, "stopped")
    with running(settings) as system:
        feed.first_half()
        feed.rest()
        assert stop_workers(system) == {0}
        assert system.transcript("stopped") == expected


def words_of(transcript: Any) -> set[tuple[int, float, str]]:
    return {
        (segment["channel"], word["start_seconds"], word["text"])
        for segment in transcript["segments"]
        for word in segment["words"]
    }


def test_a_deleted_topic_that_no_stage_reads_is_named(kafka: Kafka) -> None:
    settings = kafka.ready(topics__partitions=1)
    name = topic("dead-letters").full_name(settings.topics.prefix)
    assert f"topic {name}" not in problems(settings)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.delete_topics([name])[name].result()
    wait_for(lambda: f"topic {name} is missing: callscribe topics apply" in problems(settings), SECONDS, "it is named")


def test_the_disk_of_an_sqlite_store_is_full(
    kafka: Kafka, tmp_path: Path, call: assets.DemoCall, expected: Any
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "callscribe-test", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        settings = kafka.ready(topics__partitions=1, store__url=f"sqlite:///{disk / FILE}")
        with running(settings) as system:
            feed = HalfFed(settings, call, "brimming")
            feed.first_half()
            filling = disk / "filling"
            with contextlib.suppress(OSError), filling.open("wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
            feed.rest()
            log = settings.work_folder / "logs" / "sink-1.log"
            wait_for(lambda: "disk is full" in log.read_text(encoding="utf-8"), SECONDS, "the sink says so")
            assert "disk is full" in problems(settings)
            filling.unlink()
            assert system.transcript("brimming") == expected
            assert problems(settings) == ""
            assert not any(restarts(system).values())
    finally:
        subprocess.run(["umount", str(disk)], check=True)
