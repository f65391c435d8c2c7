"""The end of a process that must not go on: nothing it holds is acknowledged, and the log has it all."""

from __future__ import annotations

import logging
import os
import sys
import traceback

from pipeline.core.errors import CallscribeError

log = logging.getLogger("callscribe.worker")


def exit_hard(error: BaseException) -> None:
    """End the process at once; nothing it holds is acknowledged.

    The text of an error that is not ours may quote a record: its type and the places it went through are logged, not its text.
    """
    if isinstance(error, CallscribeError):
        log.critical("worker stops: %s", error)
    else:
        log.critical("worker stops: %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    logging.shutdown()
    sys.stderr.flush()
    os._exit(1)
