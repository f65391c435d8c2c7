"""The server configuration of an embedded node: KRaft, combined broker and controller, loopback only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.runtime.broker.state import Node

MEGABYTE = 1024 * 1024


def server_properties(*, node: Node, nodes: Sequence[Node], log_folder: Path) -> dict[str, str]:
    """Return Kafka's configuration of ``node`` among ``nodes``.

    Sized for development: few internal partitions, small segments and buffers, no wait before a consumer group's first
    rebalance. Topics are made by ``callscribe topics apply`` alone. With three nodes every topic has three replicas and
    ``acks=all`` means two of them.
    """
    replicas = str(len(nodes))
    in_sync = str(max(1, len(nodes) - 1))
    record_bytes = str(10 * MEGABYTE)  # above the 8 MiB that topics.yaml allows, so the topic's own limit decides
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.node_id),
        "controller.quorum.voters": ",".join(f"{peer.node_id}@127.0.0.1:{peer.controller_port}" for peer in nodes),
        "listeners": f"BROKER://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": f"BROKER://127.0.0.1:{node.port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(log_folder),
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": "0",
        "message.max.bytes": record_bytes,
        "replica.fetch.max.bytes": record_bytes,
        "log.segment.bytes": str(64 * MEGABYTE),
        "log.index.size.max.bytes": str(
            MEGABYTE
        ),  # holds the index of a 64 MiB segment; each is a sparse file of this size
        "log.cleaner.dedupe.buffer.size": str(16 * MEGABYTE),  # the default takes a quarter of the heap
        "broker.session.timeout.ms": "4000",  # a node that was killed may come back only after this; the default is 9 s
        "broker.heartbeat.interval.ms": "1000",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "4",
    }


def properties_text(properties: dict[str, str]) -> str:
    """Return ``properties`` in Java's properties format (``java.util.Properties.load``)."""
    return "".join(f"{name}={_escaped(value)}\n" for name, value in properties.items())


def _escaped(value: str) -> str:
    """Escape what the format would swallow: backslashes, leading blanks, and characters outside Latin-1."""
    text = value.replace("\\", "\\\\")
    if text.startswith(" "):
        text = "\\" + text
    return "".join(
        char if 0x20 <= ord(char) < 0x7F else "".join(f"\\u{unit:04x}" for unit in _utf16(char)) for char in text
    )


def _utf16(char: str) -> tuple[int, ...]:
    data = char.encode("utf-16-be")
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
