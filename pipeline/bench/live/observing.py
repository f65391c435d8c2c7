"""What is seen of a run while it goes on: samples of lag, processor and memory, and a line of progress every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from pipeline.bench.live.broker import BrokerProbe, StageLag, TopicSize
from pipeline.bench.live.feed_process import FeedProcess
from pipeline.bench.live.latency import Window
from pipeline.bench.live.plan import FeedPlan
from pipeline.bench.live.usage import Sample, machine_seconds, take_sample
from pipeline.bench.system import System
from pipeline.core.errors import NotReadyError
from pipeline.runtime.broker import EmbeddedBroker

ATTEMPTS = 3
LOOK_SECONDS = 0.5  # between two looks at whether the feeder is alive


class AbandonedError(Exception):
    """A stage is so far behind that the rest of the run could not change the answer."""


@dataclass(slots=True, kw_only=True)
class Observation:
    """What was seen. ``lags`` are those within the measured window; ``missed`` counts looks the broker did not answer.

    ``first`` and ``last`` are taken at the ends of the window: the processes and what the topics held.
    """

    lags: list[Mapping[str, StageLag]] = field(default_factory=list)
    missed: int = 0
    first: tuple[Sample, Mapping[str, TopicSize]] | None = None
    last: tuple[Sample, Mapping[str, TopicSize]] | None = None


@dataclass(slots=True, kw_only=True)
class Observer:
    """Watches one run from the start of its feed to the feed's end, from the one thread that calls it.

    ``origin_ms`` is the wall-clock time of the feed's start. With ``abandon_seconds`` a run is given up when a stage is so
    far behind.
    """

    system: System
    feeder: FeedProcess
    probe: BrokerProbe
    plan: FeedPlan
    origin_ms: int
    window: Window
    sample_seconds: float
    abandon_seconds: float | None
    say: Callable[[str], None]
    seen: Observation = field(default_factory=Observation)
    _busy: tuple[float, float] = (0.0, 0.0)

    def watch(self) -> Observation:
        """Return what was seen when the feed has ended. Raises AbandonedError."""
        due = time.monotonic() + self.sample_seconds
        self._busy = (time.monotonic(), machine_seconds()[0])
        while self.feeder.is_running:
            now_ms = time.time() * 1000
            if self.seen.first is None and now_ms >= self.window.start_ms:
                self.seen.first = self._take()
            elif self.seen.last is None and now_ms >= self.window.end_ms:
                self.seen.last = self._take()
            if time.monotonic() >= due:
                self._look(is_measured=self.window.holds(now_ms))
                due = max(due + self.sample_seconds, time.monotonic())
            edges_ms = [edge for edge in (self.window.start_ms, self.window.end_ms) if edge > now_ms]
            waits = [due - time.monotonic(), LOOK_SECONDS, *((edge - time.time() * 1000) / 1000 for edge in edges_ms)]
            time.sleep(max(min(waits), 0.0))
        if self.seen.last is None and self.seen.first is not None:
            self.seen.last = self._take()  # the broker was slow to answer while the window ended
        return self.seen

    def _take(self) -> tuple[Sample, Mapping[str, TopicSize]]:
        """Return the processes and the topics now. Raises NotReadyError when the broker does not answer however often it is asked."""
        for _ in range(ATTEMPTS - 1):
            with suppress(NotReadyError):
                return self._taken()
        return self._taken()

    def _taken(self) -> tuple[Sample, Mapping[str, TopicSize]]:
        sizes = self.probe.sizes()
        return take_sample({**pids_of(self.system), "feeder": self.feeder.pid}), sizes

    def _look(self, *, is_measured: bool) -> None:
        """Sample the lags, tell how it goes."""
        try:
            lags = self.probe.lags()
        except NotReadyError:
            self.seen.missed += 1
            return
        if is_measured:
            self.seen.lags.append(lags)
        self._tell(lags)
        furthest = max(lags, key=lambda stage: lags[stage].lag_seconds)
        behind = lags[furthest].lag_seconds
        if self.abandon_seconds is not None and behind > self.abandon_seconds:
            raise AbandonedError(f"{furthest} is {behind:.0f} s behind")

    def _tell(self, lags: Mapping[str, StageLag]) -> None:
        before, busy_before = self._busy
        self._busy = (time.monotonic(), machine_seconds()[0])
        cores = (self._busy[1] - busy_before) / max(self._busy[0] - before, 1e-9)
        passed = time.time() - self.origin_ms / 1000
        up = sum(call.start_seconds <= passed for call in self.plan.calls)
        behind = "  ".join(f"{stage} {lag.lag_seconds:.1f}" for stage, lag in lags.items())
        self.say(
            f"{passed:5.0f} s  {up} of {len(self.plan.calls)} calls started  behind (s): {behind}  {cores:.2f} cores"
        )


def pids_of(system: System) -> dict[str, int]:
    """Return the processes of a system by name; a worker that is just being started again is left out."""
    found = {worker.name: worker.pid for worker in system.supervisor.state.workers if worker.pid}
    for index, pid in enumerate(EmbeddedBroker(system.settings).status().pids):
        found[f"broker-{index + 1}" if index else "broker"] = pid
    return found
