"""``callscribe broker``: a real Apache Kafka for development."""

from __future__ import annotations

import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline.cli.common import note, print_json, settings_of

Port = Annotated[
    int | None, typer.Option("--port", min=1, max=65535, help="Port of the first node (default: a free one, kept).")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Data folder (default: broker in the work folder).", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class Nodes(StrEnum):
    """Sizes of the cluster."""

    ONE = "1"
    THREE = "3"


NodesOption = Annotated[
    Nodes | None, typer.Option("--nodes", help="Number of nodes; fixed at the first start.", show_default=False)
]
group = typer.Typer(no_args_is_help=True, help="A real Apache Kafka for development, on this machine.")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(group, name="broker")


@group.command(epilog="Example: callscribe broker start --port 9092")
def start(
    context: typer.Context, port: Port = None, data: Data = None, nodes: NodesOption = None, as_json: Json = False
) -> None:
    """Start the broker and return when it answers; nothing to do when it runs already."""
    from pipeline.runtime.broker import EmbeddedBroker

    settings = settings_of(context, broker__port=port)
    broker = EmbeddedBroker(settings, data, nodes=_count(nodes), progress=note)
    servers = broker.start()
    status = broker.status()
    if as_json:
        print_json(status.to_json())
        return
    typer.echo(f"Apache Kafka {status.version} at {servers} (pid {_joined(status.pids)}), data in {status.data}")
    if settings.kafka.bootstrap_servers != servers and (settings.kafka.bootstrap_servers or data is not None):
        note(f"other commands use it with: export CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS={servers}")


@group.command(epilog="Example: callscribe broker stop")
def stop(context: typer.Context, data: Data = None, as_json: Json = False) -> None:
    """Stop the broker; its data stays."""
    from pipeline.runtime.broker import EmbeddedBroker

    broker = EmbeddedBroker(settings_of(context), data)
    was_running = broker.stop()
    if as_json:
        print_json({"was_running": was_running, **broker.status().to_json()})
    else:
        typer.echo("stopped" if was_running else "it was not running")


@group.command(epilog="Example: callscribe broker status --json")
def status(context: typer.Context, data: Data = None, as_json: Json = False) -> None:
    """Say whether the broker runs, and where; exit 3 when it does not."""
    from pipeline.runtime.broker import EmbeddedBroker

    current = EmbeddedBroker(settings_of(context), data).status()
    if as_json:
        print_json(current.to_json())
    elif current.is_running:
        typer.echo(
            f"running: Apache Kafka {current.version} at {current.bootstrap_servers} (pid {_joined(current.pids)})"
        )
    elif current.pids:
        count = f"{len(current.pids)} of {current.nodes} nodes run (pid {_joined(current.pids)})"
        typer.echo(f"{count}; callscribe broker start mends it")
    else:
        typer.echo(f"not running; data in {current.data}" if current.nodes else "not running; never started")
    if not current.is_running:
        raise typer.Exit(3)


@group.command(epilog="Example: callscribe broker run --port 9092")
def run(context: typer.Context, port: Port = None, data: Data = None, nodes: NodesOption = None) -> None:
    """Run the broker in the foreground until Ctrl-C or SIGTERM."""
    from pipeline.runtime.broker import EmbeddedBroker

    def terminate(*_: object) -> NoReturn:
        raise typer.Exit(0)

    signal.signal(signal.SIGTERM, terminate)
    broker = EmbeddedBroker(settings_of(context, broker__port=port), data, nodes=_count(nodes), progress=note)
    broker.run(lambda servers: note(f"Apache Kafka at {servers}; Ctrl-C stops it"))


def _joined(pids: tuple[int, ...]) -> str:
    return ", ".join(map(str, pids))


def _count(nodes: Nodes | None) -> int | None:
    return None if nodes is None else int(nodes)
