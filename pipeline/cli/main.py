"""The program ``callscribe``: builds the command tree, turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.cli.common import Context, note
from pipeline.core.errors import CallscribeError

# Each module adds its commands through register(app); the order is the order of --help.
GROUPS = (
    "demo",
    "ingest",
    "transcript",
    "tail",
    "replay",
    "up",
    "worker",
    "broker",
    "topics",
    "schemas",
    "dead_letters",
    "models",
    "speakers",
    "config",
    "doctor",
    "bench",
    "chaos",
)

app = typer.Typer(
    name="callscribe",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Real-time transcription of call-centre audio as a Kafka application.\n\nStart with: callscribe demo",
    epilog="Exit codes: 0 done, 1 failed or drift, 2 wrong usage, 3 something outside is not ready, 4 input refused, 130 interrupted.",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"callscribe {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings file (default: callscribe.toml in this folder).")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Real-time transcription of call-centre audio as a Kafka application."""
    context.obj = Context(config=config)


for group in GROUPS:
    import_module(f"pipeline.cli.{group}").register(app)


def run() -> None:
    """Run the command line; the entry point of the ``callscribe`` program."""
    try:
        app()
    except CallscribeError as error:
        note(f"callscribe: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output is gone: `callscribe tail | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
