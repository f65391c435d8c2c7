"""A real Apache Kafka for development: KRaft, one node or three, on loopback, with data that survives.

The data folder holds ``broker.json`` (ports, pids, cluster id), and per node its configuration, its log and Kafka's own
folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.core.errors import FailedError, NotReadyError, UsageError
from pipeline.runtime.broker import ports, process
from pipeline.runtime.broker.config import properties_text, server_properties
from pipeline.runtime.broker.jars import KAFKA_VERSION, ensure_jars
from pipeline.runtime.broker.java import find_java
from pipeline.runtime.broker.state import Node, State, new_cluster_id, read_state, write_state
from pipeline.runtime.settings import Settings

START_TIMEOUT_SECONDS = 60.0
STOP_GRACE_SECONDS = 15.0
PROBE_SECONDS = 3.0
SOCKETS_SECONDS = 5.0
MINIMUM_FREE_BYTES = 256 * 1024 * 1024
NODES = (1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStatus:
    """Where the embedded broker stands.

    ``bootstrap_servers`` is kept while it is stopped, and empty before the first start. ``pid`` is the first node's.
    """

    is_running: bool
    bootstrap_servers: str
    pid: int | None
    pids: tuple[int, ...]
    version: str
    data: Path
    cluster_id: str
    nodes: int
    logs: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the status as a JSON object."""
        return {
            **asdict(self),
            "data": str(self.data),
            "pids": list(self.pids),
            "logs": [str(log) for log in self.logs],
        }


class EmbeddedBroker:
    """The Apache Kafka of one data folder (default: ``broker`` in the work folder).

    ``nodes`` (1 or 3) is fixed at the first start. ``progress`` receives lines worth showing, such as a download's.
    """

    def __init__(
        self,
        settings: Settings,
        data: Path | None = None,
        *,
        nodes: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._data = (data or settings.work_folder / "broker").expanduser().absolute()
        self._nodes = nodes
        self._progress = progress or (lambda line: None)
        if nodes is not None and nodes not in NODES:
            raise UsageError(f"the embedded broker has 1 or 3 nodes, not {nodes}")
        if "," in str(self._data):
            raise UsageError(f"{self._data}: Kafka takes no comma in the name of its data folder")

    # -- commands ------------------------------------------------------------------------------------------------

    def start(self) -> str:
        """Start what is not running, wait until it answers, return the bootstrap servers.

        Raises NotReadyError (port taken, data folder, disk, Java, jars, Kafka died) and UsageError (another number of
        nodes or another port than the running broker has).
        """
        with self._locked():
            state = self._state_to_start()
            write_state(self._data, state)
            started = []
            try:
                for node, command in self._prepared(state):
                    pid = process.start_detached(command, log=self._log(node), folder=self._data)
                    started.append((pid, self._properties(node)))
                    state = _with_pid(state, node.node_id, pid)
                    write_state(self._data, state)
                self._wait(state, lambda node: process.is_node(node.pid, self._properties(node)))
            except BaseException:
                process.stop(started, grace_seconds=2.0)
                raise
        return state.bootstrap_servers

    def run(self, on_ready: Callable[[str], None]) -> None:
        """Run every node in the foreground until it ends or this is interrupted.

        ``on_ready`` receives the bootstrap servers. Raises what `start` raises, NotReadyError when the broker runs
        already, and FailedError when a node dies.
        """
        children: dict[int, subprocess.Popen[bytes]] = {}
        try:
            with self._locked():
                state = self._state_to_start()
                if any(self._is_alive(node) for node in state.nodes):
                    raise NotReadyError(f"the broker in {self._data} runs already: callscribe broker stop")
                for node, command in self._prepared(state):
                    children[node.node_id] = process.start_foreground(command, folder=self._data)
                    state = _with_pid(state, node.node_id, children[node.node_id].pid)
                    write_state(self._data, state)
                self._wait(state, lambda node: children[node.node_id].poll() is None)
            on_ready(state.bootstrap_servers)
            while all(child.poll() is None for child in children.values()):
                time.sleep(process.POLL_SECONDS)
            code = next(code for child in children.values() if (code := child.poll()) is not None)
            if code not in (0, -15, 143):  # `broker stop` sends SIGTERM
                raise FailedError(f"Apache Kafka stopped (exit code {code})")
        finally:
            for child in children.values():
                child.terminate()
            for child in children.values():
                try:
                    child.wait(STOP_GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()

    def stop(self) -> bool:
        """Stop every node, gracefully if it can be; return whether one was running. The data stays."""
        if read_state(self._data) is None:
            return False
        with self._locked():
            state = read_state(self._data)
            alive = [node for node in state.nodes if self._is_alive(node)] if state else []
            process.stop([(node.pid or 0, self._properties(node)) for node in alive], grace_seconds=STOP_GRACE_SECONDS)
        return bool(alive)

    def status(self) -> BrokerStatus:
        """Return where the broker stands. Raises NotReadyError when its state cannot be read."""
        state = read_state(self._data)
        nodes = state.nodes if state else ()
        pids = tuple(node.pid for node in nodes if node.pid and self._is_alive(node))
        return BrokerStatus(
            is_running=bool(nodes) and len(pids) == len(nodes),
            bootstrap_servers=state.bootstrap_servers if state else "",
            pid=pids[0] if pids else None,
            pids=pids,
            version=KAFKA_VERSION,
            data=self._data,
            cluster_id=state.cluster_id if state else "",
            nodes=len(nodes),
            logs=tuple(self._log(node) for node in nodes),
        )

    # -- before a start ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the data folder against another start or stop. Raises NotReadyError when it cannot be written."""
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            handle = (self._data / ".lock").open("w")
        except OSError as error:
            raise NotReadyError(
                f"the broker's data folder {self._data} cannot be written ({error.strerror})"
            ) from error
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                yield
            except OSError as error:  # a full disk shows up in any of the files written here
                raise NotReadyError(
                    f"the broker's data folder {self._data} cannot be written ({error.strerror})"
                ) from error

    def _state_to_start(self) -> State:
        """Return the state with ports that may be used, adopting nodes of ours whose pid got lost."""
        wanted = self._settings.broker.port
        state = read_state(self._data) or self._first_state(wanted)
        if self._nodes is not None and self._nodes != len(state.nodes):
            raise UsageError(
                f"the broker in {self._data} has {len(state.nodes)} node(s): choose another --data for {self._nodes}"
            )
        if wanted and wanted != state.nodes[0].port:
            if any(self._is_alive(node) for node in state.nodes):
                running = f"the broker in {self._data} runs on port {state.nodes[0].port}"
                raise UsageError(f"{running}: callscribe broker stop, then --port {wanted}")
            state = replace(state, nodes=tuple(replace(node, port=wanted + at) for at, node in enumerate(state.nodes)))
        nodes = tuple(
            node if self._is_alive(node) or ports.is_free(node.port) else self._adopted(node) for node in state.nodes
        )
        if not any(self._is_alive(node) for node in nodes):
            nodes = _with_free_controller_ports(nodes)
        return replace(state, nodes=nodes)

    def _first_state(self, port: int) -> State:
        taken: set[int] = set()
        nodes = []
        for node_id in range(1, (self._nodes or 1) + 1):
            node_port = port + node_id - 1 if port else ports.free_port(taken=taken)
            taken.add(node_port)
            nodes.append(Node(node_id=node_id, port=node_port, controller_port=0))
        return State(cluster_id=new_cluster_id(), nodes=tuple(nodes))

    def _adopted(self, node: Node) -> Node:
        """Return the node with the pid that holds its port, if that process is ours.

        Raises NotReadyError naming the holder.
        """
        holder = ports.holder(node.port)
        if node.pid and (holder is None or holder.pid == node.pid):  # killed: its sockets close after it is gone
            deadline = time.monotonic() + SOCKETS_SECONDS
            while not ports.is_free(node.port) and time.monotonic() < deadline:
                time.sleep(process.POLL_SECONDS)
        if ports.is_free(node.port):
            return node
        if holder is not None and process.is_node(holder.pid, self._properties(node)):
            return replace(node, pid=holder.pid)
        cluster = ports.cluster_of(f"{ports.HOST}:{node.port}", timeout=PROBE_SECONDS)
        what = f"another Kafka broker (cluster {cluster})" if cluster else "another program"
        use = f", or use that broker: CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS={ports.HOST}:{node.port}" if cluster else ""
        raise NotReadyError(
            f"port {node.port} is taken by {what}, {process.describe(holder)}: choose another with --port{use}"
        )

    def _prepared(self, state: State) -> list[tuple[Node, list[str]]]:
        """Return the nodes that have to be started with their commands; their storage is formatted."""
        missing = [node for node in state.nodes if not self._is_alive(node)]
        if not missing:
            return []
        free = shutil.disk_usage(self._data).free
        if free < MINIMUM_FREE_BYTES:
            amounts = f"{free // 2**20} MB free, the broker needs {MINIMUM_FREE_BYTES // 2**20} MB"
            raise NotReadyError(f"the disk of {self._data} is full: {amounts}; choose another folder with --data")
        java, jars = find_java(), ensure_jars(progress=self._progress)
        commands = []
        for node in missing:
            folder, properties, log = self._data / f"node-{node.node_id}", self._properties(node), self._log(node)
            properties.write_text(
                properties_text(server_properties(node=node, nodes=state.nodes, log_folder=folder)), encoding="ascii"
            )
            if not (folder / "meta.properties").exists():
                process.format_storage(
                    java=java.executable, jars=jars, cluster_id=state.cluster_id, properties=properties
                )
            if log.exists():
                log.replace(log.with_suffix(".log.1"))
            commands.append(
                (
                    node,
                    process.broker_command(
                        java=java.executable,
                        jars=jars,
                        heap_mb=self._settings.broker.heap_mb,
                        is_quick=self._settings.broker.compiler == "quick",
                        properties=properties,
                    ),
                )
            )
        return commands

    # -- after a start -------------------------------------------------------------------------------------------

    def _wait(self, state: State, is_alive: Callable[[Node], bool]) -> None:
        """Wait until every node is in the cluster.

        Raises NotReadyError when one dies or hangs, or when a foreign broker answers.
        """
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            for node in state.nodes:
                if not is_alive(node):
                    log = self._log(node)
                    raise NotReadyError(f"Apache Kafka died while starting: {process.last_words(log)} (log: {log})")
            if all(ports.accepts(node.port) for node in state.nodes):
                cluster = ports.cluster_of(state.bootstrap_servers, nodes=len(state.nodes), timeout=PROBE_SECONDS)
                if cluster == state.cluster_id:
                    return
                if cluster is not None:
                    raise NotReadyError(
                        f"{state.bootstrap_servers} is answered by another Kafka broker (cluster {cluster})"
                    )
            time.sleep(process.POLL_SECONDS)
        raise NotReadyError(
            f"Apache Kafka did not answer within {START_TIMEOUT_SECONDS:.0f} s (log: {self._log(state.nodes[0])})"
        )

    def _is_alive(self, node: Node) -> bool:
        return process.is_node(node.pid, self._properties(node))

    def _properties(self, node: Node) -> Path:
        return self._data / f"node-{node.node_id}.properties"

    def _log(self, node: Node) -> Path:
        return self._data / f"node-{node.node_id}.log"


def bootstrap_servers(settings: Settings) -> str:
    """Return the broker to use: the configured one, else the embedded one that runs in the work folder.

    Raises NotReadyError naming the command that starts one.
    """
    if settings.kafka.bootstrap_servers:
        return settings.kafka.bootstrap_servers
    status = EmbeddedBroker(settings).status()
    if not status.pids:  # a cluster serves without some of its nodes
        raise NotReadyError(
            f"no Kafka broker runs in {settings.work_folder}: start one with `callscribe broker start`, "
            "or name yours in CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS"
        )
    return status.bootstrap_servers


def _with_pid(state: State, node_id: int, pid: int) -> State:
    return replace(
        state, nodes=tuple(replace(node, pid=pid) if node.node_id == node_id else node for node in state.nodes)
    )


def _with_free_controller_ports(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    taken = {node.port for node in nodes}
    chosen = []
    for node in nodes:
        keep = node.controller_port and node.controller_port not in taken and ports.is_free(node.controller_port)
        port = node.controller_port if keep else ports.free_port(taken=taken)
        taken.add(port)
        chosen.append(replace(node, controller_port=port))
    return tuple(chosen)
