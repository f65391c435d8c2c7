"""``callscribe worker``: one stage in the foreground; what a container runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import settings_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def worker(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(help="vad, asr, diarize, assemble or sink.")],
    status_file: Annotated[
        Path | None,
        typer.Option("--status-file", help="Written when the stage is ready; for supervisors.", hidden=True),
    ] = None,
) -> None:
    """Run one stage in the foreground until SIGTERM or Ctrl-C.

    The topics must exist (callscribe topics apply).

    Example: callscribe worker asr
    """
    from pipeline.cli.process import run_worker

    run_worker(settings_of(context), stage, status_file)
