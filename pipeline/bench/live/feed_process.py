"""The feeder's process, seen from the one that starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from pipeline.bench.live.feeder import READY, FeedReport
from pipeline.bench.system import environment_of
from pipeline.core.errors import FailedError, NotReadyError
from pipeline.runtime.settings import Settings

PROGRAM = "pipeline.bench.live.feeder"
PREPARE_SECONDS = 120.0  # to cut and encode everything
STOP_SECONDS = 5.0


class FeedProcess:
    """The feeder's process. It has prepared all calls when this is made; use as a context manager, which ends it.

    Raises FailedError with its last line when it dies, NotReadyError when it is not ready in time.
    """

    def __init__(self, plan: Path, settings: Settings) -> None:
        self._log = settings.work_folder / "logs" / "feeder.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, str(plan)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **environment_of(settings)},
                start_new_session=True,
            )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> FeedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Return whether it still feeds."""
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Return when every call is prepared."""
        deadline = time.monotonic() + PREPARE_SECONDS
        while READY not in self._lines:
            if not self.is_running:
                raise FailedError(f"the feeder ended (exit code {self._process.returncode}): {self._last_words()}")
            if time.monotonic() > deadline:
                raise NotReadyError(f"the feeder is not ready after {PREPARE_SECONDS:.0f} s (log: {self._log})")
            time.sleep(0.05)

    def begin(self, origin_ms: int) -> None:
        """Let the feed begin at ``origin_ms`` of the wall clock."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{origin_ms}\n")
        self._process.stdin.flush()

    def report(self) -> FeedReport:
        """Return how the feed went, once the process has ended. Raises FailedError when it did not feed everything."""
        code = self._process.wait()
        self._reader.join()
        if code or len(self._lines) < 2:
            raise FailedError(f"the feeder ended (exit code {code}): {self._last_words()}")
        report = FeedReport(**json.loads(self._lines[-1]))
        if not report.is_complete:
            raise FailedError(f"the feeder was stopped after {report.records} records")
        return report

    def stop(self) -> None:
        """End the process if it still runs."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.strip())

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{lines[-1].removeprefix('callscribe: ') if lines else 'it wrote no log'} (log: {self._log})"
