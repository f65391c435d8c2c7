"""Logging of the workers: one line per event, JSON or plain. Never a customer's word, never audio."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line; what is passed as ``extra`` becomes fields."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self._stage = stage

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of ``record``."""
        fields = {key: value for key, value in vars(record).items() if key not in STANDARD}
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "stage": self._stage,
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class PlainFormatter(logging.Formatter):
    """Time, level, stage, message, extras; for people."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {stage} %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of ``record``."""
        extras = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in STANDARD)
        return super().format(record) + (f" {extras}" if extras else "")


def configure(*, stage: str, level: str, style: str) -> None:
    """Send all logging to stderr in the given style; libraries speak from WARNING on."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(JsonFormatter(stage) if style == "json" else PlainFormatter(stage))
    logging.basicConfig(level=logging.WARNING, handlers=[output], force=True)
    logging.getLogger("callscribe").setLevel(level)
    # aiokafka logs every heartbeat failure of a normal rebalance as an error of its own.
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(
        logging.CRITICAL if level != "DEBUG" else logging.DEBUG
    )
