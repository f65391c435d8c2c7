"""What the embedded broker remembers between commands: ``broker.json`` in its data folder."""

from __future__ import annotations

import base64
import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.core.errors import NotReadyError

FILE = "broker.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One Kafka process; ``pid`` is the last known one, running or not."""

    node_id: int
    port: int
    controller_port: int
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The cluster that lives in a data folder."""

    cluster_id: str
    nodes: tuple[Node, ...]

    @property
    def bootstrap_servers(self) -> str:
        """Return the addresses clients connect to."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)


def read_state(data: Path) -> State | None:
    """Return the state kept in ``data``; None when no broker was ever started there. Raises NotReadyError."""
    path = data / FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return State(cluster_id=document["cluster_id"], nodes=tuple(Node(**node) for node in document["nodes"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NotReadyError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NotReadyError(
            f"{path}: not a broker's state ({type(error).__name__}); remove {data} to begin anew"
        ) from error


def write_state(data: Path, state: State) -> None:
    """Replace the state in ``data`` atomically."""
    temporary = data / f".{FILE}.new"
    temporary.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, data / FILE)


def new_cluster_id() -> str:
    """Return a random cluster id as Kafka's ``Uuid`` makes it: 16 bytes, URL-safe base64, unpadded, no ``-`` first."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text
