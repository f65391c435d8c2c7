"""The embedded broker on the real Apache Kafka: every test here has a broker of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.runtime.broker import EmbeddedBroker, bootstrap_servers, embedded
from pipeline.runtime.broker.state import read_state
from pipeline.runtime.settings import BrokerSettings, RuntimeSettings, Settings

from .conftest import Kafka

pytestmark = pytest.mark.integration
TOPIC = "notes"
Make = Callable[..., EmbeddedBroker]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make brokers that are stopped at the end of the test."""
    made: list[EmbeddedBroker] = []

    def _make(data: str = "broker", *, port: int = 0, nodes: int | None = None) -> EmbeddedBroker:
        broker = EmbeddedBroker(Settings(broker=BrokerSettings(port=port)), tmp_path / data, nodes=nodes)
        made.append(broker)
        return broker

    yield _make
    for broker in made:
        broker.stop()


def _create(servers: str, **config: str) -> None:
    client = AdminClient({"bootstrap.servers": servers})
    for future in client.create_topics([NewTopic(TOPIC, 1, config=config)]).values():
        future.result()


def _produce(servers: str, value: bytes) -> None:
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "message.max.bytes": 16 * 2**20})
    producer.produce(TOPIC, value, on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(30) == 0
    assert failures == [None]


def _read(servers: str) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "enable.partition.eof": False})
    try:
        partition = TopicPartition(TOPIC, 0, 0)
        end = consumer.get_watermark_offsets(partition, timeout=20)[1]
        consumer.assign([partition])
        values: list[bytes] = []
        deadline = time.monotonic() + 20
        while len(values) < end and time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                values.append(message.value())
        return values
    finally:
        consumer.close()


def _wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def test_data_survives_stop_and_kill(make: Make) -> None:
    broker = make()
    assert not broker.status().is_running
    assert broker.stop() is False

    servers = broker.start()
    status = broker.status()
    assert status.is_running
    assert status.version == "4.1.0"
    assert status.bootstrap_servers == servers
    assert broker.start() == servers
    assert broker.status().pid == status.pid
    _create(servers)
    _produce(servers, b"one")

    assert broker.stop() is True
    assert not psutil.pid_exists(status.pid or 0) or psutil.Process(status.pid).status() == psutil.STATUS_ZOMBIE
    assert not broker.status().is_running
    assert broker.start() == servers, "the port is kept"
    assert _read(servers) == [b"one"]
    _produce(servers, b"two")

    os.kill(broker.status().pid or 0, signal.SIGKILL)
    _wait_for(lambda: not broker.status().is_running)
    assert broker.start() == servers
    assert _read(servers) == [b"one", b"two"]


def test_topics_are_not_created_by_clients_and_records_of_8_mib_fit(kafka: Kafka) -> None:
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    client.list_topics("never-made", timeout=10)  # asks for it by name, which creates it where that is allowed
    assert "never-made" not in client.list_topics(timeout=10).topics
    _create(kafka.bootstrap_servers, **{"max.message.bytes": str(8 * 2**20)})
    value = os.urandom(8 * 2**20 - 1024)
    _produce(kafka.bootstrap_servers, value)
    assert _read(kafka.bootstrap_servers) == [value]


def test_a_taken_port_is_named_with_its_holder(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(NotReadyError, match=rf"port {port} is taken by another program, .*\(pid {os.getpid()}\)"):
            make(port=port).start()


def test_a_foreign_broker_on_the_port_is_named_with_its_cluster(make: Make, kafka: Kafka) -> None:
    port = int(kafka.bootstrap_servers.rpartition(":")[2])
    cluster = AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics(timeout=10).cluster_id
    with pytest.raises(NotReadyError, match=rf"port {port} is taken by another Kafka broker \(cluster {cluster}\)"):
        make(port=port).start()


def test_a_broker_that_dies_while_starting_says_why(make: Make, tmp_path: Path) -> None:
    broker = make()
    broker.start()
    broker.stop()
    meta = tmp_path / "broker" / "node-1" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(NotReadyError, match=r"died while starting: .*7.*\(log: .*node-1\.log\)"):
        broker.start()
    assert not broker.status().is_running


def test_two_starts_at_once_make_one_broker_and_a_lost_pid_is_found_again(make: Make, tmp_path: Path) -> None:
    brokers = [make(), make()]
    servers: list[str] = []
    threads = [threading.Thread(target=lambda b=broker: servers.append(b.start())) for broker in brokers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(servers) == 2
    assert len(set(servers)) == 1

    broker, pid = brokers[0], brokers[0].status().pid
    state = tmp_path / "broker" / "broker.json"
    document = json.loads(state.read_text())
    document["nodes"][0]["pid"] = os.getpid()
    state.write_text(json.dumps(document))
    assert not broker.status().is_running, "this test is not a broker"
    assert broker.stop() is False
    assert broker.start() == servers[0]
    assert broker.status().pid == pid


def test_bootstrap_servers_come_from_the_settings_or_the_work_folder(tmp_path: Path, kafka: Kafka) -> None:
    with pytest.raises(NotReadyError, match="callscribe broker start"):
        bootstrap_servers(Settings(runtime=RuntimeSettings(work_folder=str(tmp_path))))
    assert bootstrap_servers(kafka.settings(kafka__bootstrap_servers="b:1")) == "b:1"
    assert (
        bootstrap_servers(Settings(runtime=RuntimeSettings(work_folder=str(kafka.folder)))) == kafka.bootstrap_servers
    )


def test_another_port_or_size_than_the_running_one_is_refused(kafka: Kafka) -> None:
    data = kafka.folder / "broker"
    with pytest.raises(UsageError, match="broker stop"):
        EmbeddedBroker(Settings(broker=BrokerSettings(port=31_999)), data).start()
    with pytest.raises(UsageError, match="another --data"):
        EmbeddedBroker(Settings(), data, nodes=3).start()


def test_a_full_disk_is_named(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "MINIMUM_FREE_BYTES", 1 << 62)
    with pytest.raises(NotReadyError, match=rf"the disk of {tmp_path}/broker is full"):
        make().start()


def test_foreground_stops_on_sigterm(tmp_path: Path) -> None:
    code = "import typer; from pipeline.cli import broker; app = typer.Typer(); broker.register(app); app()"
    command = [sys.executable, "-c", code, "broker", "run", "--data", str(tmp_path / "broker")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        try:
            line = next(line for line in child.stderr if line.startswith("Apache Kafka at 127.0.0.1:"))
            state = read_state(tmp_path / "broker")
            assert state is not None
            assert state.bootstrap_servers in line
            broker = EmbeddedBroker(Settings(), tmp_path / "broker")
            assert broker.status().is_running
            with pytest.raises(NotReadyError, match="runs already"):
                broker.run(lambda servers: None)
            assert broker.status().is_running
        finally:
            child.terminate()
            child.stderr.read()
        assert child.wait(30) == 0
    assert not EmbeddedBroker(Settings(), tmp_path / "broker").status().is_running


def test_three_nodes_go_on_without_one(make: Make) -> None:
    broker = make(nodes=3)
    servers = broker.start()
    assert len(servers.split(",")) == 3
    _create(servers)
    _produce(servers, b"one")
    os.kill(broker.status().pids[1], signal.SIGKILL)
    _wait_for(lambda: len(broker.status().pids) == 2)
    assert not broker.status().is_running
    _produce(servers, b"two")
    assert broker.start() == servers
    assert broker.status().is_running
    assert _read(servers) == [b"one", b"two"]
