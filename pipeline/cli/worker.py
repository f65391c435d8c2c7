"""``callscribe worker``: one stage in the foreground; what a container runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import settings_of
from pipeline.core.errors import UsageError

SUPERVISED_PATIENCE_SECONDS = 60.0  # a supervisor starts workers and broker at the same time


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
    from pipeline import stages

    settings = settings_of(context)
    patience = SUPERVISED_PATIENCE_SECONDS if status_file is not None else 0.0
    if stage == "sink":
        from pipeline.cli.sink import run_sink

        run_sink(settings, status_file, patience)
    elif stage in stages.STREAM_STAGES:
        from pipeline.runtime.stage_app import run_stage

        run_stage(stages.spec(stage), settings, status_file=status_file, patience_seconds=patience)
    else:
        raise UsageError(f"no stage {stage!r}; there are {', '.join(stages.STAGES)}")
