"""Carries a fault out, and undoes it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from pipeline.chaos.broker import Poisoner
from pipeline.chaos.feeding import Feeding
from pipeline.chaos.schedule import Fault
from pipeline.core.errors import FailedError
from pipeline.runtime.broker import EmbeddedBroker
from pipeline.runtime.settings import Settings
from pipeline.runtime.supervise import Supervisor
from pipeline.sink.stores import FILE

LOCK_SECONDS = 20.0  # to wait for the store's lock


class Tormentor:
    """Does to a running system what a schedule says. `carry_out` returns when the fault is over; call it from any thread."""

    def __init__(self, settings: Settings, supervisor: Supervisor, feeding: Feeding, poisoner: Poisoner) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._feeding = feeding
        self._poisoner = poisoner
        self._broker = EmbeddedBroker(settings)

    def carry_out(self, fault: Fault) -> None:
        """Carry out ``fault``; a worker that is not there at the moment is left alone."""
        carry: dict[str, Callable[[Fault], None]] = {
            "kill": lambda fault: self._signal(fault, signal.SIGKILL),
            "term": lambda fault: self._signal(fault, signal.SIGTERM),
            "stop": self._stop,
            "broker": self._restart_broker,
            "store": self._lock_store,
            "poison": lambda fault: self._poisoner.poison(fault.target, *fault.detail.split()),
            "feed": lambda fault: self._feeding.vanish(fault.target, fault.lasts_seconds),
        }
        carry[fault.kind](fault)

    def _pid(self, name: str) -> int:
        return next(worker.pid for worker in self._supervisor.state.workers if worker.name == name)

    def _signal(self, fault: Fault, number: signal.Signals) -> None:
        pid = self._pid(fault.target)
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, number)

    def _stop(self, fault: Fault) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._pid(fault.target) or -1)
            process.suspend()
            time.sleep(fault.lasts_seconds)
            process.resume()

    def _restart_broker(self, fault: Fault) -> None:
        if fault.target == "killed":
            for pid in self._broker.status().pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            self._broker.stop()
        time.sleep(fault.lasts_seconds)
        for attempt in range(3):
            try:
                self._broker.start()
                return
            except Exception:
                if attempt == 2:
                    raise

    def _lock_store(self, fault: Fault) -> None:
        path = self._settings.work_folder / FILE
        if not Path(path).exists():
            raise FailedError(f"{path}: there is no store yet")
        with contextlib.closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(fault.lasts_seconds)
            connection.execute("ROLLBACK")
