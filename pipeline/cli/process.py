"""A stage's process as a supervisor starts it: ``python -m pipeline.cli.process STAGE``.

The same as ``callscribe worker STAGE``, without the command tree: five workers that start at once on two cores feel its imports.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from pipeline.core.errors import CallscribeError, UsageError
from pipeline.runtime import settings as settings_module
from pipeline.runtime.settings import Settings


def run_worker(settings: Settings, stage: str, status_file: Path | None) -> None:
    """Run ``stage`` until SIGTERM. With a ``status_file``, for a supervisor, a broker or store that is away is waited for.

    Raises UsageError for an unknown stage, NotReadyError when broker, topics, store or model are not there.
    """
    from pipeline import stages

    patience = 0.0 if status_file is None else math.inf
    if stage == "sink":
        from pipeline.cli.sink import run_sink

        run_sink(settings, status_file, patience)
    elif stage in stages.STREAM_STAGES:
        from pipeline.runtime.stage_app import run_stage

        run_stage(stages.spec(stage), settings, status_file=status_file, patience_seconds=patience)
    else:
        raise UsageError(f"no stage {stage!r}; there are {', '.join(stages.STAGES)}")


def main() -> int:
    """Run the stage of the arguments; return the exit code."""
    parser = argparse.ArgumentParser(description="Run one stage for a supervisor.")
    parser.add_argument("stage")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--status-file", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        run_worker(settings_module.load(config=arguments.config).settings, arguments.stage, arguments.status_file)
    except CallscribeError as error:
        print(f"callscribe: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
