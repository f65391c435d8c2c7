"""Logging of the workers: one line per event, JSON or plain. Never a customer's word, never audio."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Any

REPEAT_SECONDS = 10.0
KIND_CHARACTERS = 40  # of a message that tell its kind, where it was put together before logging saw it
MAX_KINDS = 1000

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


class Repeats(logging.Filter):
    """Holds back what a logger says again and again: the first of a kind passes, then one every ``seconds`` with their number.

    A broker that is away makes its clients say so some thirty times a second.
    """

    def __init__(self, seconds: float = REPEAT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._held: dict[
            tuple[str, str], tuple[float, int]
        ] = {}  # when the last one passed, and how many were held back since

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record passes."""
        if record.name.startswith("callscribe"):
            return True
        key, now = (record.name, str(record.msg)[:KIND_CHARACTERS]), self._clock()
        passed, held = self._held.get(key, (-math.inf, 0))
        if now - passed < self._seconds:
            self._held[key] = passed, held + 1
            return False
        if len(self._held) >= MAX_KINDS:
            self._held.clear()
        self._held[key] = now, 0
        if held:
            record.repeats = held
        return True


def configure(*, stage: str, level: str, style: str) -> None:
    """Send all logging to stderr in the given style; libraries speak from WARNING on."""
    output = logging.StreamHandler(sys.stderr)
    output.addFilter(Repeats())
    output.setFormatter(JsonFormatter(stage) if style == "json" else PlainFormatter(stage))
    logging.basicConfig(level=logging.WARNING, handlers=[output], force=True)
    logging.getLogger("callscribe").setLevel(level)
    # aiokafka logs every heartbeat failure of a normal rebalance as an error of its own.
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(
        logging.CRITICAL if level != "DEBUG" else logging.DEBUG
    )
