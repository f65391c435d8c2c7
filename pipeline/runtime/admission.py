"""Whether there is room for another call: new ones are refused while a stage is too far behind. Calls under way go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from pipeline.core.errors import NotReadyError
from pipeline.runtime.lag import StageLag

LOOK_SECONDS = 5.0  # an answer holds for so long: a hundred calls that begin at once ask once


class Admission:
    """Answers for one program. ``lags`` asks the broker; ``limit_seconds`` 0 admits everything."""

    def __init__(
        self,
        limit_seconds: float,
        lags: Callable[[], Mapping[str, StageLag]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit_seconds
        self._lags = lags
        self._clock = clock
        self._lock = threading.Lock()
        self._asked = -LOOK_SECONDS
        self._problem: str | None = None

    def admit(self, call_id: str) -> None:
        """Return when a new call may begin. Raises NotReadyError that names the stage that is behind, and by how much."""
        if not self._limit:
            return
        with self._lock:
            if self._clock() - self._asked >= LOOK_SECONDS:
                self._problem = self._look()
                self._asked = self._clock()
            problem = self._problem
        if problem is not None:
            raise NotReadyError(f"call {call_id} is not admitted: {problem}")

    def _look(self) -> str | None:
        behind = {stage: lag.seconds for stage, lag in self._lags().items() if lag.seconds is not None}
        stage = max(behind, key=lambda name: behind[name], default=None)
        if stage is None or behind[stage] <= self._limit:
            return None
        return f"stage {stage} is {behind[stage]:.0f} s behind, and new calls wait from {self._limit:g} s on (ingest.max_lag_seconds)"
