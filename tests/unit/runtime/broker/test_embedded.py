"""What the embedded broker decides before any process runs; tests/integration/test_broker.py runs them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.runtime.broker import EmbeddedBroker, ports, process
from pipeline.runtime.broker.config import properties_text, server_properties
from pipeline.runtime.broker.java import find_java
from pipeline.runtime.broker.state import FILE, Node, State, new_cluster_id, read_state, write_state
from pipeline.runtime.settings import Settings


def test_state_round_trip(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    state = State(cluster_id=new_cluster_id(), nodes=(Node(node_id=1, port=20_001, controller_port=20_002, pid=7),))
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert state.bootstrap_servers == "127.0.0.1:20001"


@pytest.mark.parametrize("text", ["", "{}", '{"cluster_id": "x", "nodes": [{"port": 1}]}', "[]"])
def test_a_broken_state_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(NotReadyError, match=rf"{FILE}: not a broker's state"):
        EmbeddedBroker(Settings(), tmp_path).status()


def test_status_before_the_first_start_touches_nothing(tmp_path: Path) -> None:
    status = EmbeddedBroker(Settings(), tmp_path / "data").status()
    assert not status.is_running
    assert (status.bootstrap_servers, status.pid, status.nodes) == ("", None, 0)
    assert not (tmp_path / "data").exists()


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReadyError, match=r"data folder .*/file/data cannot be written \(Not a directory\)"):
        EmbeddedBroker(Settings(), tmp_path / "file" / "data").start()


def test_sizes_and_folders_kafka_cannot_take_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 or 3 nodes, not 2"):
        EmbeddedBroker(Settings(), tmp_path, nodes=2)
    with pytest.raises(UsageError, match="comma"):
        EmbeddedBroker(Settings(), tmp_path / "a,b")


def test_three_nodes_keep_three_copies_and_need_two(tmp_path: Path) -> None:
    nodes = [Node(node_id=at, port=20_000 + at, controller_port=21_000 + at) for at in (1, 2, 3)]
    properties = server_properties(node=nodes[1], nodes=nodes, log_folder=tmp_path)
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:21001,2@127.0.0.1:21002,3@127.0.0.1:21003"
    assert properties["listeners"] == "BROKER://127.0.0.1:20002,CONTROLLER://127.0.0.1:21002"
    assert (properties["default.replication.factor"], properties["min.insync.replicas"]) == ("3", "2")
    assert properties["auto.create.topics.enable"] == "false"


def test_properties_are_escaped() -> None:
    assert properties_text({"log.dirs": "/tmp/Prüfung \\x/𝄞"}) == "log.dirs=/tmp/Pr\\u00fcfung \\\\x/\\ud834\\udd1e\n"


def test_only_a_kafka_with_these_properties_is_ours(tmp_path: Path) -> None:
    assert not process.is_node(os.getpid(), tmp_path / "node-1.properties")
    assert not process.is_node(None, tmp_path)
    process.stop([(os.getpid(), tmp_path)], grace_seconds=0.1)  # a strange pid is left alone: we are still here


def test_the_heap_is_in_memory_from_the_start_and_seldom_grows(tmp_path: Path) -> None:
    """Else a broker's memory grows for hours, by what has died in its heap; the JVM tells what it made of the command."""
    java = find_java().executable
    command = process.broker_command(
        java=java, jars=tmp_path, heap_mb=512, is_quick=False, properties=tmp_path / "node-1.properties"
    )
    flags = command[1 : command.index("-cp")]
    shown = subprocess.run(
        [java, *flags, "-XX:+PrintFlagsFinal", "-version"], capture_output=True, text=True, check=True
    )
    found = dict(re.findall(r"(\w+) += (\w+)", shown.stdout))
    assert found["AlwaysPreTouch"] == "true"
    assert found["MinHeapFreeRatio"] == "20"
    assert (found["InitialHeapSize"], found["MaxHeapSize"]) == (str(128 * 2**20), str(512 * 2**20))


def test_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.accepts(port)
        holder = ports.holder(port)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert ports.is_free(port)
    assert not ports.accepts(port)
    chosen = ports.free_port(taken=set())
    assert chosen in ports.CANDIDATES
    assert ports.is_free(chosen)


def test_last_words_prefer_errors(tmp_path: Path) -> None:
    log = tmp_path / "node-1.log"
    assert process.last_words(log) == "no log"
    log.write_text(
        "t [main] INFO a\nt [main] ERROR disk broke\n\tat x.y\njava.io.IOException: No space left on device\nbye\n"
    )
    assert process.last_words(log) == "t [main] ERROR disk broke | java.io.IOException: No space left on device"
    log.write_text("one\ntwo\n")
    assert process.last_words(log) == "one | two"
