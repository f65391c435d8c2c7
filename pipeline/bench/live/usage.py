"""What processes and the machine use: processor time and memory, at two moments and in between."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

BENCH = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSample:
    """A process and its children at one moment.

    ``uss_bytes`` is what would be freed if they ended; pages shared with others are not in it.
    """

    pid: int
    cpu_seconds: float
    rss_bytes: int
    uss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Everything at one moment. ``at`` is monotonic; the machine's seconds are summed over its cores since it started."""

    at: float
    processes: Mapping[str, ProcessSample]
    machine_busy_seconds: float
    machine_stolen_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUsage:
    """What a process used between two samples. ``cores`` is processor time over wall time."""

    name: str
    cores: float
    rss_bytes: tuple[int, int]
    uss_bytes: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What everything used between two samples, in cores.

    ``busy_cores`` is the whole machine, ``foreign_cores`` what of it was none of the processes, ``stolen_cores`` what a
    hypervisor kept.
    """

    seconds: float
    processes: tuple[ProcessUsage, ...]
    own_cores: float
    busy_cores: float
    foreign_cores: float
    stolen_cores: float


def take_sample(pids: Mapping[str, int]) -> Sample:
    """Return a sample of the processes ``pids`` (by name, with their children) and of this one, which is called bench."""
    processes = {}
    for name, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            processes[name] = _sample_process(pid, with_children=True)
    processes[BENCH] = _sample_process(os.getpid(), with_children=False)  # its children are the others
    busy, stolen = machine_seconds()
    return Sample(at=time.monotonic(), processes=processes, machine_busy_seconds=busy, machine_stolen_seconds=stolen)


def usage_between(first: Sample, last: Sample) -> Usage:
    """Return what was used from ``first`` to ``last``. A process that was replaced meanwhile counts from its start."""
    seconds = max(last.at - first.at, 1e-9)
    processes = []
    for name, after in last.processes.items():
        before = first.processes.get(name)
        is_same = before is not None and before.pid == after.pid
        used = after.cpu_seconds - (before.cpu_seconds if before is not None and is_same else 0.0)
        begun = before if before is not None else after
        processes.append(
            ProcessUsage(
                name=name,
                cores=max(used, 0.0) / seconds,
                rss_bytes=(begun.rss_bytes, after.rss_bytes),
                uss_bytes=(begun.uss_bytes, after.uss_bytes),
            )
        )
    own = sum(process.cores for process in processes)
    busy = (last.machine_busy_seconds - first.machine_busy_seconds) / seconds
    return Usage(
        seconds=seconds,
        processes=tuple(processes),
        own_cores=own,
        busy_cores=busy,
        foreign_cores=max(busy - own, 0.0),
        stolen_cores=(last.machine_stolen_seconds - first.machine_stolen_seconds) / seconds,
    )


def machine_seconds() -> tuple[float, float]:
    """Return the seconds all cores together were busy, and those a hypervisor kept from them, since the machine started."""
    times = psutil.cpu_times()
    stolen = float(getattr(times, "steal", 0.0))
    resting = times.idle + getattr(times, "iowait", 0.0) + stolen
    # Guests' time is in user and nice already (proc(5), /proc/stat).
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - guests - resting), stolen


def describe_machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _sample_process(pid: int, *, with_children: bool) -> ProcessSample:
    main = psutil.Process(pid)
    cpu, rss, uss = 0.0, 0, 0
    for process in (main, *(main.children(recursive=True) if with_children else ())):
        with contextlib.suppress(psutil.NoSuchProcess):
            with process.oneshot():
                times, memory = process.cpu_times(), process.memory_full_info()
            cpu += times.user + times.system
            if with_children:
                cpu += times.children_user + times.children_system  # those that ended
            rss += memory.rss
            uss += memory.uss
    return ProcessSample(pid=pid, cpu_seconds=cpu, rss_bytes=rss, uss_bytes=uss)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
