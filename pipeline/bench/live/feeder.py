"""The process that feeds every call of a run: ``python -m pipeline.bench.live.feeder PLAN``.

Reads the plan, cuts and encodes all audio, writes ``ready`` on stdout and waits for a line on stdin: the wall-clock time in
ms at which the feed begins. Then each record is produced when its last sample has been captured, as a recording feed would.
At the end it writes one line of JSON: how late it was. Settings come from the environment, as a worker's do.
"""

from __future__ import annotations

import gc
import heapq
import json
import os
import signal
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pipeline.bench.live.cutting import Slot, cut, opening, value
from pipeline.bench.live.plan import FeedPlan, PlannedCall, PlannedRecording, capture_start_ms, read_plan
from pipeline.core.errors import CallscribeError
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import FeedOptions, records
from pipeline.runtime import settings as settings_module
from pipeline.runtime.latency import percentile
from schemas.codec import Codec

READY = "ready"
LONGEST_SLEEP_SECONDS = 0.5  # between two looks at whether to stop


class Outlet(Protocol):
    """Where encoded records go."""

    def put(self, call_id: bytes, value: bytes, kind: bytes) -> None:
        """Hand over a record. Raises when an earlier one was lost."""

    def serve(self) -> None:
        """Take note of what was lost."""

    def wait(self) -> None:
        """Return when every record is acknowledged. Raises when one was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedReport:
    """How a feed went. Lateness is from the time a record was due to its handing over, over all times records were due."""

    records: int
    value_bytes: int
    late_p50_seconds: float
    late_p99_seconds: float
    late_max_seconds: float
    is_complete: bool


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """One call, ready to be fed: ``opened`` is the beginning of each of its values."""

    call: PlannedCall
    slots: Sequence[Slot]
    opened: bytes


def prepare(plan: FeedPlan, codec: Codec) -> list[PreparedCall]:
    """Return the calls of a plan, cut and encoded; calls of the same recording share everything but their ids.

    Raises InputError when a recording cannot be read.
    """
    slots = {name: cut_recording(one, plan.record_seconds, codec) for name, one in plan.recordings.items()}
    return [PreparedCall(call, slots[call.recording], opening(call.call_id, codec)) for call in plan.calls]


def cut_recording(recording: PlannedRecording, record_seconds: float, codec: Codec) -> tuple[Slot, ...]:
    """Return the records that `pipeline.ingest.feed.records` makes of a recording. Raises InputError."""
    options = FeedOptions(roles=dict(enumerate(recording.roles)), record_seconds=record_seconds)
    with open_audio(Path(recording.path)) as audio:
        return cut(records(audio, options, call_id="any", capture_start_ms=0), codec)


def feed(
    calls: Sequence[PreparedCall],
    outlet: Outlet,
    *,
    origin_ms: int,
    origin: float,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
    is_stopped: Callable[[], bool],
) -> FeedReport:
    """Feed every call from ``origin`` on (seconds of ``monotonic``; ``origin_ms`` is the same moment on the wall clock).

    Returns when all records are acknowledged, or ``is_stopped``. Raises what ``outlet`` raises.
    """
    starts_ms = [capture_start_ms(origin_ms, prepared.call) for prepared in calls]
    starts = [origin + (start_ms - origin_ms) / 1000 for start_ms in starts_ms]
    ids = [prepared.call.call_id.encode("ascii") for prepared in calls]
    due = [(starts[index] + prepared.slots[0].due_seconds, index, 0) for index, prepared in enumerate(calls)]
    heapq.heapify(due)
    late = array("d")
    count = value_bytes = 0
    while due and not is_stopped():
        at, index, position = due[0]
        remaining = at - monotonic()
        if remaining > 0:
            sleep(min(remaining, LONGEST_SLEEP_SECONDS))
            continue
        late.append(max(-remaining, 0.0))
        slots, opened = calls[index].slots, calls[index].opened
        for record in slots[position].records:
            data = value(opened, record, starts_ms[index])
            outlet.put(ids[index], data, record.kind)
            count += 1
            value_bytes += len(data)
        outlet.serve()
        if position + 1 < len(slots):
            heapq.heapreplace(due, (starts[index] + slots[position + 1].due_seconds, index, position + 1))
        else:
            heapq.heappop(due)
    if not due:
        outlet.wait()
    return FeedReport(
        records=count,
        value_bytes=value_bytes,
        late_p50_seconds=round(percentile(late, 0.5) or 0.0, 6),
        late_p99_seconds=round(percentile(late, 0.99) or 0.0, 6),
        late_max_seconds=round(max(late, default=0.0), 6),
        is_complete=not due,
    )


def main() -> int:
    """Feed the plan of the argument; return the exit code."""
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, frame: stopped.append(got))
    parent = os.getppid()
    try:
        settings = settings_module.load().settings
        codec = Codec()
        calls = prepare(read_plan(Path(sys.argv[1])), codec)
        from pipeline.bench.live.broker import EncodedProducer

        outlet = EncodedProducer(settings)
        gc.collect()
        gc.freeze()  # what is prepared stays to the end: the collector need not look at it in the middle of the feed
        print(READY, flush=True)
        line = sys.stdin.readline()
        if not line.strip():
            return 0  # who started this is gone
        origin_ms = int(line)
        report = feed(
            calls,
            outlet,
            origin_ms=origin_ms,
            origin=time.monotonic() + origin_ms / 1000 - time.time(),
            monotonic=time.monotonic,
            sleep=time.sleep,
            is_stopped=lambda: bool(stopped) or os.getppid() != parent,
        )
    except CallscribeError as error:
        print(f"callscribe: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(asdict(report)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
