"""All stages on one machine: a process per worker, started, watched and restarted.

The supervisor's state lies in ``<work folder>/run``: ``supervisor.json`` (who runs what) and one ``<worker>.ready`` file per worker
that has its partitions. Logs lie in ``<work folder>/logs``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from pipeline.core.errors import FailedError, NotReadyError
from pipeline.runtime.stopping import STOP_SECONDS
from pipeline.runtime.waits import doubling

GRACE_SECONDS = STOP_SECONDS + 3.0
STEADY_SECONDS = 20.0  # a worker that ran this long is restarted at once
STATE = "supervisor.json"
INSTANCE = "CALLSCRIBE_RUNTIME__INSTANCE_ID"
WORKER = "pipeline.cli.process"  # the program of a worker's process


@dataclass(slots=True)
class Worker:
    """One worker process and its history."""

    name: str
    stage: str
    pid: int = 0
    created: float = 0.0
    restarts: int = 0
    early_exits: int = 0  # in a row, of processes that did not live long
    is_ready: bool = False
    last_exit: int | None = None


@dataclass(slots=True)
class RunState:
    """What ``supervisor.json`` holds."""

    pid: int
    created: float
    has_started_broker: bool
    workers: list[Worker] = field(default_factory=list)


class Supervisor:
    """Starts and restarts workers. `run` blocks; `start`, `watch` and `stop` are its parts, for programs with a loop of their own."""

    def __init__(
        self,
        work_folder: Path,
        stages: Sequence[str],
        *,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
        config: Path | None = None,
        has_started_broker: bool = False,
        on_event: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._folder = work_folder
        self._environment = {**os.environ, **(environment or {})}
        self._config = ["--config", str(config.resolve())] if config else []
        self._on_event = on_event
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._due: dict[str, float] = {}
        me = psutil.Process()
        names = [Worker(f"{stage}-{number}", stage) for stage in stages for number in range(1, workers + 1)]
        place = f"{socket.gethostname()}:{work_folder.resolve()}"
        self._member = hashlib.sha256(place.encode()).hexdigest()[:12]  # static members of their groups: one a worker
        self.state = RunState(me.pid, me.create_time(), has_started_broker, names)

    def start(self) -> None:
        """Start every worker. Raises FailedError when another supervisor runs in the work folder."""
        other = read_state(self._folder)
        if other is not None and is_running(other):
            raise FailedError(
                f"callscribe is already up in {self._folder} (process {other.pid}): callscribe status, callscribe down"
            )
        if other is not None:
            _end([worker for worker in other.workers if _is_process(worker.pid, worker.created)])
        (self._folder / "logs").mkdir(parents=True, exist_ok=True)
        (self._folder / "run").mkdir(parents=True, exist_ok=True)
        for worker in self.state.workers:
            self._spawn(worker)
        self._save()

    def watch(self) -> None:
        """Notice exits and readiness, restart what is due. Call a few times a second."""
        now = time.monotonic()
        is_changed = False
        for worker in self.state.workers:
            process = self._processes.get(worker.name)
            code = process.poll() if process is not None else None
            if process is not None and code is not None:
                del self._processes[worker.name]
                lived = time.time() - worker.created
                worker.last_exit, worker.is_ready, worker.pid = code, False, 0
                worker.early_exits = 0 if lived > STEADY_SECONDS else worker.early_exits + 1
                self._due[worker.name] = now + _delay(worker.early_exits)
                self._on_event(f"{worker.name} exited ({_describe(code)}); restarting. Log: {self.log_of(worker)}")
                is_changed = True
            if worker.name in self._due and now >= self._due[worker.name]:
                del self._due[worker.name]
                worker.restarts += 1
                self._spawn(worker)
                is_changed = True
            if not worker.is_ready and worker.pid and self._ready_file(worker).exists():
                worker.is_ready = True
                is_changed = True
        if is_changed:
            self._save()

    def wait_ready(
        self, timeout_seconds: float, on_progress: Callable[[Sequence[Worker]], None] = lambda workers: None
    ) -> None:
        """Return when every worker is ready. Raises NotReadyError naming the one that is not, with the end of its log."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            self.watch()
            on_progress(self.state.workers)
            waiting = [worker for worker in self.state.workers if not worker.is_ready]
            if not waiting:
                return
            hopeless = [worker for worker in waiting if worker.restarts >= 3]
            if hopeless or time.monotonic() > deadline:
                worker = (hopeless or waiting)[0]
                raise NotReadyError(
                    f"stage {worker.name} does not become ready: {self._last_line(worker)} (log: {self.log_of(worker)})"
                )
            time.sleep(0.1)

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Watch until ``should_stop``, then stop every worker."""
        try:
            while not should_stop():
                self.watch()
                time.sleep(0.2)
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop every worker: SIGTERM, and SIGKILL after the grace period."""
        self._due.clear()
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "run" / STATE).unlink()

    def log_of(self, worker: Worker) -> Path:
        """Return the log file of a worker."""
        return self._folder / "logs" / f"{worker.name}.log"

    def _spawn(self, worker: Worker) -> None:
        ready = self._ready_file(worker)
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", WORKER, worker.stage, *self._config, "--status-file", str(ready)]
        with self.log_of(worker).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._environment, INSTANCE: f"{self._member}.{worker.name}"},
                start_new_session=True,
            )
        self._processes[worker.name] = process
        worker.pid = process.pid
        with contextlib.suppress(psutil.Error):
            worker.created = psutil.Process(process.pid).create_time()

    def _ready_file(self, worker: Worker) -> Path:
        return self._folder / "run" / f"{worker.name}.ready"

    def _last_line(self, worker: Worker) -> str:
        try:
            lines = self.log_of(worker).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1].strip() if lines else "it wrote no log"

    def _save(self) -> None:
        path = self._folder / "run" / STATE
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self.state)), encoding="utf-8")
        temporary.replace(path)


def _delay(early_exits: int) -> float:
    """Return how long to wait before the next start: the first one comes at once."""
    return 0.0 if early_exits <= 1 else next(islice(doubling(), early_exits - 2, None))


def read_state(work_folder: Path) -> RunState | None:
    """Return the state a supervisor left in the work folder, None when there is none."""
    try:
        document: dict[str, Any] = json.loads((work_folder / "run" / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    workers = [Worker(**worker) for worker in document.pop("workers")]
    return RunState(**document, workers=workers)


def is_running(state: RunState) -> bool:
    """Return whether the supervisor of ``state`` still runs."""
    return _is_process(state.pid, state.created)


def shut_down(work_folder: Path) -> bool:
    """Stop the supervisor of the work folder and its workers; return whether one ran."""
    state = read_state(work_folder)
    if state is None:
        return False
    ran = is_running(state)
    if ran:
        process = psutil.Process(state.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS + 20)
        except psutil.TimeoutExpired:
            process.kill()
    _end([worker for worker in state.workers if _is_process(worker.pid, worker.created)])
    (work_folder / "run" / STATE).unlink(missing_ok=True)
    return ran


def _end(workers: Sequence[Worker]) -> None:
    """Stop workers whose supervisor is gone."""
    processes = []
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(worker.pid)
            process.terminate()
            processes.append(process)
    for process in psutil.wait_procs(processes, timeout=GRACE_SECONDS)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _is_process(pid: int, created: float) -> bool:
    """Return whether ``pid`` is still the process that was created then, and no zombie."""
    try:
        process = psutil.Process(pid) if pid else None
        return (
            process is not None
            and abs(process.create_time() - created) < 1.0
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.Error:
        return False


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
