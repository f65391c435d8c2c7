"""Carries a fault out, and undoes it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable

import psutil

from pipeline.chaos.broker import Poisoner
from pipeline.chaos.feeding import Feeding
from pipeline.chaos.recovery import Hit
from pipeline.core.errors import FailedError, NotReadyError
from pipeline.runtime.broker import EmbeddedBroker
from pipeline.runtime.settings import Settings
from pipeline.runtime.supervise import Supervisor
from pipeline.sink.stores import FILE

LOCK_SECONDS = 20.0  # to wait for the store's lock
THERE_SECONDS = 15.0  # to wait for a worker that is about to be started again
GONE_SECONDS = 30.0  # to wait for the end of a worker that was asked to stop
STARTS = 3  # of the broker: another process may have taken its port
POLL_SECONDS = 0.05


class Tormentor:
    """Does to a running system what a schedule says. Call from any thread."""

    def __init__(self, settings: Settings, supervisor: Supervisor, feeding: Feeding, poisoner: Poisoner) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._feeding = feeding
        self._poisoner = poisoner
        self._broker = EmbeddedBroker(settings)
        self._carry: dict[str, Callable[[Hit], None]] = {
            "kill": self._kill,
            "term": self._terminate,
            "stop": self._stop,
            "broker": self._restart_broker,
            "store": self._lock_store,
            "poison": self._poison,
            "feed": self._vanish,
        }

    def carry_out(self, hit: Hit) -> None:
        """Carry out the fault; returns when it is over, and notes when its victim was down.

        Raises FailedError or NotReadyError when there is nothing to hurt, or it cannot be undone.
        """
        self._carry[hit.fault.kind](hit)

    def _kill(self, hit: Hit) -> None:
        os.kill(self._running(hit.fault.target), signal.SIGKILL)
        hit.down_at = time.time()

    def _terminate(self, hit: Hit) -> None:
        pid = self._running(hit.fault.target)
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + GONE_SECONDS
        while self._pid(hit.fault.target) == pid:
            if time.monotonic() > deadline:
                raise FailedError(f"{hit.fault.target} did not end within {GONE_SECONDS:.0f} s of SIGTERM")
            time.sleep(POLL_SECONDS)
        hit.down_at = time.time()

    def _stop(self, hit: Hit) -> None:
        process = psutil.Process(self._running(hit.fault.target))
        process.suspend()
        hit.down_at = time.time()
        try:
            time.sleep(hit.fault.lasts_seconds)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):  # killed while it stood still
                process.resume()

    def _restart_broker(self, hit: Hit) -> None:
        if hit.fault.target == "killed":
            pids = self._broker.status().pids
            if not pids:
                raise FailedError("the broker is not running")
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        else:
            self._broker.stop()
        hit.down_at = time.time()
        time.sleep(hit.fault.lasts_seconds)
        for start in range(1, STARTS + 1):
            try:
                self._broker.start()
                return
            except NotReadyError:
                if start == STARTS:
                    raise

    def _lock_store(self, hit: Hit) -> None:
        path = self._settings.work_folder / FILE
        if not path.exists():
            raise FailedError(f"{path}: there is no store yet")
        with contextlib.closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                raise FailedError(f"{path}: cannot be locked ({error.sqlite_errorname})") from None
            hit.down_at = time.time()
            time.sleep(hit.fault.lasts_seconds)
            connection.execute("ROLLBACK")

    def _poison(self, hit: Hit) -> None:
        self._poisoner.poison(hit.fault.target, *hit.fault.detail.split())

    def _vanish(self, hit: Hit) -> None:
        self._feeding.vanish(hit.fault.target, hit.fault.lasts_seconds)

    def _pid(self, name: str) -> int:
        return next(worker.pid for worker in self._supervisor.state.workers if worker.name == name)

    def _running(self, name: str) -> int:
        """Return the process of a worker; one that is about to be started again is waited for."""
        deadline = time.monotonic() + THERE_SECONDS
        while not (pid := self._pid(name)):
            if time.monotonic() > deadline:
                raise FailedError(f"{name} is not running")
            time.sleep(POLL_SECONDS)
        return pid
