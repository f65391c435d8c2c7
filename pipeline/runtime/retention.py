"""Warns when a stage reads records that the broker will soon delete: what it does not reach in time becomes a gap."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import topics

log = logging.getLogger("callscribe.worker")

AGAIN_SECONDS = 60.0  # between two warnings


class RetentionWatch:
    """Looks at the records of one topic as they are read; warns from half of its retention on."""

    def __init__(self, topic: topics.Topic, *, clock: Callable[[], float] = time.time) -> None:
        self._topic = topic
        self._clock = clock
        self._warned = 0.0

    def look(self, timestamp_ms: int) -> bool:
        """Look at the broker's timestamp of a record; return whether it was warned."""
        now = self._clock()
        age_ms = now * 1000 - timestamp_ms
        kept_ms = self._topic.retention_ms
        if kept_ms < 0 or timestamp_ms <= 0 or age_ms < kept_ms / 2 or now - self._warned < AGAIN_SECONDS:
            return False
        self._warned = now
        log.warning(
            "this stage is behind by more than half of what its topic keeps; what is older becomes a gap",
            extra={"topic": self._topic.name, "hours": round(age_ms / 3_600_000, 1), "kept_hours": kept_ms / 3_600_000},
        )
        return True
