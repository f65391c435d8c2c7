"""Ports of this machine: which are free, who holds one, and what Kafka cluster answers there."""

from __future__ import annotations

import random
import socket

import psutil

HOST = "127.0.0.1"
# Below the ephemeral range, where a client that retries a stopped broker could connect to its own source port.
CANDIDATES = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Return whether a server could listen on ``port`` of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as Java's server sockets: TIME_WAIT does not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(*, taken: set[int]) -> int:
    """Return a free port that is not in ``taken``."""
    return next(port for port in random.sample(CANDIDATES, len(CANDIDATES)) if port not in taken and is_free(port))


def accepts(port: int) -> bool:
    """Return whether something accepts connections on ``port`` of the loopback interface."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0):
            return True
    except OSError:
        return False


def holder(port: int) -> psutil.Process | None:
    """Return the process that listens on ``port``, where the system lets this user see it."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr[1:] == (port,):
                return psutil.Process(connection.pid)
    except (psutil.Error, PermissionError):
        return None
    return None


def cluster_of(bootstrap_servers: str, *, nodes: int = 1, timeout: float) -> str | None:
    """Return the id of the Kafka cluster that answers at ``bootstrap_servers`` with at least ``nodes`` brokers.

    None when none does within ``timeout`` seconds.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    silent = {"log_level": 0, "error_cb": lambda error: None}
    try:
        metadata = AdminClient({"bootstrap.servers": bootstrap_servers, **silent}).list_topics(timeout=timeout)
    except KafkaException:
        return None
    return str(metadata.cluster_id) if len(metadata.brokers) >= nodes else None
