"""The Java processes of the embedded broker: start, recognise, stop.

Only processes known by pid and command line are touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from pipeline.core.errors import FailedError, NotReadyError

MAIN_CLASS = "kafka.Kafka"
POLL_SECONDS = 0.05
FORMAT_TIMEOUT_SECONDS = 60.0
JVM_OPTIONS = ("-XX:+UseSerialGC",)  # one collector thread
INITIAL_HEAP_MB = 128
# The heap is in memory from the start. Otherwise its old generation fills with what has died, page by page for hours, before it is
# tidied. It grows only where less than a fifth of it is free then; with the default of two fifths it grew by 27 MB under
# the records of two hours of 20 calls, with 60 MB in use.
STEADY = ("-XX:+AlwaysPreTouch", "-XX:MinHeapFreeRatio=20")
QUICK = "-XX:TieredStopAtLevel=1"  # without the optimising compiler: quick to start rather than fast for hours
LOG_OPTIONS = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)


def broker_command(*, java: Path, jars: Path, heap_mb: int, is_quick: bool, properties: Path) -> list[str]:
    """Return the command line of one Kafka node."""
    heap = (f"-Xms{min(heap_mb, INITIAL_HEAP_MB)}m", f"-Xmx{heap_mb}m", *STEADY)
    options = (*heap, *JVM_OPTIONS, *((QUICK,) if is_quick else ()), *LOG_OPTIONS)
    return [str(java), *options, "-cp", f"{jars}/*", MAIN_CLASS, str(properties)]


def format_storage(*, java: Path, jars: Path, cluster_id: str, properties: Path) -> None:
    """Prepare an empty log folder for ``cluster_id`` (Kafka's ``kafka-storage format``). Raises NotReadyError."""
    command = [str(java), "-Xmx64m", *JVM_OPTIONS, QUICK, LOG_OPTIONS[0], "-cp", f"{jars}/*", "kafka.tools.StorageTool"]
    command += ["format", "--cluster-id", cluster_id, "--config", str(properties)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=FORMAT_TIMEOUT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotReadyError(f"Kafka's storage cannot be formatted: {type(error).__name__} of {java}") from error
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise NotReadyError(f"Kafka's storage cannot be formatted: {' | '.join(lines[-3:])[:600]}")


def start_detached(command: Sequence[str], *, log: Path, folder: Path) -> int:
    """Start ``command`` in a session of its own, writing to ``log``; return its pid.

    The shell in between makes it a child of init: it outlives this process and leaves no zombie in it.
    """
    with log.open("ab") as output:
        done = subprocess.run(
            ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd=folder,
            start_new_session=True,
            check=True,
        )
    return int(done.stdout)


def start_foreground(command: Sequence[str], *, folder: Path) -> subprocess.Popen[bytes]:
    """Start ``command`` as a child that writes to our stderr; a Ctrl-C on the terminal does not reach it."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, cwd=folder, start_new_session=True)


def is_node(pid: int | None, properties: Path) -> bool:
    """Return whether ``pid`` is a living Kafka process that runs with ``properties``: a reused pid is not."""
    if not pid:
        return False
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
        return process.status() != psutil.STATUS_ZOMBIE and MAIN_CLASS in command and command[-1] == str(properties)
    except psutil.Error:
        return False


def stop(nodes: Iterable[tuple[int, Path]], *, grace_seconds: float) -> None:
    """Ask each (pid, properties) to stop and wait; after ``grace_seconds`` kill.

    Raises FailedError when one survives.
    """
    alive = [(pid, properties) for pid, properties in nodes if is_node(pid, properties)]
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
        for pid, _ in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while alive and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            alive = [(pid, properties) for pid, properties in alive if is_node(pid, properties)]
        if not alive:
            return
    raise FailedError(f"the broker (pid {alive[0][0]}) does not stop")


def describe(process: psutil.Process | None) -> str:
    """Return ``name (pid 12)``, or that it cannot be seen."""
    if process is None:
        return "a process of another user"
    try:
        return f"{process.name()} (pid {process.pid})"
    except psutil.Error:
        return f"pid {process.pid}"


def last_words(log: Path) -> str:
    """Return in one line what a node wrote last: its errors if there are any, else its last lines."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 65_536))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return "no log"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("\tat ", "WARNING: "))]
    worst = [line for line in lines if " ERROR " in line or "Exception" in line or "Error:" in line]
    return " | ".join(line[:300] for line in (worst or lines)[-3:]) or "nothing in the log"
