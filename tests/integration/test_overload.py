"""Feeds that lose, repeat and misdate records, and more calls than there is time for: every transcript is as it should be."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pipeline.demo import assets
from pipeline.demo.feeding import options_of
from pipeline.ingest.chunks import CallDescription, Feed
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import records
from pipeline.replay import Replay
from pipeline.runtime.call_state import CallOutlet
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.runtime.lag import stage_lags
from pipeline.runtime.settings import Settings
from pipeline.sink.coverage import coverage_of
from pipeline.sink.stores.base import StoredCall
from schemas.records import CallAudio, Channel
from tests.integration.conftest import Kafka
from tests.integration.feeds import STARTED, HalfFed
from tests.integration.reading import committed_offset, records_of, rows_of, stored_call
from tests.integration.system import System, environment_of, replayed, running, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SECONDS = 60.0
START_MS = 1_700_000_000_000
RECORD_SECONDS = 0.2
RECORD_SAMPLES = 1600  # of 8 kHz
MAX_LAG_SECONDS = 2
STAGES = ("vad", "asr", "diarize", "assemble", "sink")

Records = list[CallAudio]


@pytest.fixture(scope="module")
def plain(system: System, call: assets.DemoCall, expected: Any) -> StoredCall:
    """What the store holds of the call when its feed does everything right."""
    feed(system.settings, call, "plain")
    assert system.transcript("plain") == expected
    return rows_of(stored_call(system.settings, "plain"))


def feed(
    settings: Settings, call: assets.DemoCall, call_id: str, arrange: Callable[[Records], Records] = lambda found: found
) -> None:
    """Feed the records of a call as ``arrange`` has them; returns when they are acknowledged."""
    with open_audio(call.path, name=call_id) as audio:
        options = options_of(call, RECORD_SECONDS)
        found = list(records(audio, options, call_id=call_id, capture_start_ms=START_MS))
    deliver(settings, call_id, arrange(found))


def deliver(settings: Settings, call_id: str, found: Iterable[CallAudio], *, is_new: bool = True) -> None:
    outlet = CallOutlet(settings)
    try:
        if is_new:
            outlet.take(call_id, started=STARTED, is_new=True)
        delivery = outlet.delivery()
        for record in found:
            delivery.send(record)
        delivery.wait()
    finally:
        outlet.close()


# -- feeds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", [0, 1])
def test_missing_records_are_a_gap_of_their_channel(
    system: System, call: assets.DemoCall, plain: StoredCall, channel: int
) -> None:
    holes = [(0, 3), (22, 27), (40, 41)]  # sequences
    call_id = f"missing-{channel}"

    def without(found: Records) -> Records:
        missing = {number for start, end in holes for number in range(start, end)}
        return [one for one in found if one.channel != channel or one.sequence not in missing]

    feed(system.settings, call, call_id, without)
    assert system.transcript(call_id)["segments"]
    found = rows_of(stored_call(system.settings, call_id))
    assert [(gap.channel, gap.start_sample, gap.end_sample, gap.sample_rate_hz, gap.reason) for gap in found.gaps] == [
        (channel, start * RECORD_SAMPLES, end * RECORD_SAMPLES, 8000, "missing_records") for start, end in holes
    ]
    account = coverage_of(found)
    assert account.problems == ()
    assert account.channels[channel].totals["gap"] == sum(end - start for start, end in holes) * RECORD_SAMPLES
    for name in ("segments", "coverage"):
        ours, theirs = ([row for row in getattr(one, name) if row.channel != channel] for one in (found, plain))
        assert ours == theirs
    assert found.degraded == ()


def test_repeats_and_late_records_are_dropped(system: System, call: assets.DemoCall, plain: StoredCall) -> None:
    settings = system.settings
    everything = Records()

    def repeated(found: Records) -> Records:
        everything.extend(found)
        twice = [one for record in found for one in (record, record)]
        middle = len(twice) // 2
        return [*twice[:middle], *found[10:60], *twice[middle:]]

    feed(settings, call, "repeated", repeated)
    system.transcript("repeated")
    assert rows_of(stored_call(settings, "repeated")) == plain
    written = len(records_of(settings, "call.segments"))
    deliver(settings, "repeated", everything, is_new=False)  # behind its end
    end = len(records_of(settings, "call.audio"))
    wait_for(lambda: committed_offset(settings, "vad", "call.audio") == end, SECONDS, "vad has read it all")
    feed(settings, call, "behind-it")
    system.transcript("behind-it")
    segments = records_of(settings, "call.segments")[written:]
    assert {message.key() for message in segments} == {b"behind-it"}
    for call_id in ("repeated", "behind-it"):
        assert rows_of(stored_call(settings, call_id)) == plain
    assert list(read_dead_letters(settings)) == []


def drifting(factor: float) -> Callable[[int, int], int]:
    return lambda time_ms, _: START_MS + round((time_ms - START_MS) * factor)


CLOCKS: dict[str, Callable[[int, int], int]] = {
    "fast": drifting(1.05),
    "slow": drifting(0.95),
    "backwards": lambda time_ms, number: time_ms - 3_600_000 * (number > 50) - 7_000 * (number % 10 == 9),
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_clock_of_a_feed_moves_no_sample(
    system: System, call: assets.DemoCall, plain: StoredCall, clock: str
) -> None:
    def misdated(found: Records) -> Records:
        times = [CLOCKS[clock](one.capture_time_ms, number) for number, one in enumerate(found)]
        return [replace(one, capture_time_ms=time_ms) for one, time_ms in zip(found, times, strict=True)]

    feed(system.settings, call, clock, misdated)
    system.transcript(clock)
    assert rows_of(stored_call(system.settings, clock)) == plain


# -- admission -------------------------------------------------------------------------------------------------------


def ingest(settings: Settings, call: assets.DemoCall, *arguments: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("callscribe")), "ingest", str(call.path), "--language", "en"]
    return subprocess.Popen(
        [*command, *arguments],
        env=environment_of(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, said = process.communicate(timeout=SECONDS)
    return process.returncode, out, said


def calls_on(settings: Settings, name: str) -> set[bytes]:
    return {message.key() for message in records_of(settings, name)}


def lag_seconds(settings: Settings) -> float:
    return max(lag.seconds or 0.0 for lag in stage_lags(settings).values())


def test_new_calls_wait_while_a_stage_is_behind(kafka: Kafka, call: assets.DemoCall, expected: Any) -> None:
    settings = kafka.ready(
        topics__partitions=1, kafka__session_timeout_seconds=6, ingest__max_lag_seconds=MAX_LAG_SECONDS
    )
    going = HalfFed(settings, call, "going")
    first = ingest(settings, call, "--call-id", "taken-over", "--speed", "real")
    try:
        wait_for(lambda: calls_on(settings, "call.audio") == {b"taken-over"}, SECONDS, "it is admitted")
        first.send_signal(signal.SIGSTOP)  # it must not end first
        going.up_to(0.5)
        wait_for(lambda: lag_seconds(settings) > MAX_LAG_SECONDS, SECONDS, "vad is behind")
        for arguments in (("--call-id", "late"), ()):
            code, out, said = finished(ingest(settings, call, *arguments))
            assert (code, out) == (3, "")
            told = r"call (\S+) is not admitted: stage vad is \d+ s behind, and new calls wait from 2 s on \(ingest\.max_lag_seconds\)"
            assert re.search(told, " ".join(said.split())), said
        for name in ("call.audio", "call.state"):
            assert calls_on(settings, name) == {b"taken-over", b"going"}
    finally:
        first.kill()
        first.communicate()
    going.rest()
    code, out, said = finished(ingest(settings, call, "--call-id", "taken-over", "--take-over"))
    assert (code, out) == (0, "taken-over\n"), said
    assert lag_seconds(settings) > MAX_LAG_SECONDS
    with running(settings) as system:
        assert system.transcript("going") == expected
        assert system.transcript("taken-over") == expected
        wait_for(lambda: lag_seconds(settings) <= MAX_LAG_SECONDS, SECONDS, "the lag is gone")
        code, out, said = finished(ingest(settings, call, "--call-id", "late"))
        assert (code, out) == (0, "late\n"), said
        assert system.transcript("late") == expected


# -- backlog ---------------------------------------------------------------------------------------------------------

LEGS, NOISE_SECONDS, NOISE_RATE = 8, 240, 16_000  # 61 MB
PENDING_MB = 8
GROWTH_MB = 75  # of a worker with a backlog over one without: vad takes about 50, and 100 when nothing bounds its input


def feed_noise(settings: Settings, call_id: str) -> None:
    """Feed a large call in which nobody speaks: the most bytes for the least compute."""
    legs = [
        Channel(channel=leg, role=f"channel{leg}", sample_rate_hz=NOISE_RATE, encoding="pcm_s16le")
        for leg in range(LEGS)
    ]
    described = CallDescription(call_id=call_id, channels=tuple(legs), capture_start_ms=START_MS, record_seconds=0.5)
    made = Feed(described)
    generator = np.random.default_rng(7)

    def all_records() -> Iterator[CallAudio]:
        yield from made.start()
        for second in range(NOISE_SECONDS):
            level = 0 if second % 4 else 200
            yield from made.push([generator.normal(0, level, NOISE_RATE).astype("<i2").tobytes() for _ in legs])
        yield from made.end()

    deliver(settings, call_id, all_records())


def resident_mb(system: System) -> dict[str, float]:
    return {stage: psutil.Process(system.pid(stage)).memory_info().rss / 2**20 for stage in STAGES}


@contextmanager
def peaks(system: System) -> Iterator[dict[str, float]]:
    """Give the largest resident memory of every worker while the block runs."""
    found, stop = resident_mb(system), threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            for stage, size in resident_mb(system).items():
                found[stage] = max(found[stage], size)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def test_a_backlog_is_caught_up_with_in_bounded_memory(kafka: Kafka, system: System, replay: Replay) -> None:
    calls = assets.calls()
    wanted = {one.name: replayed(replay, one) for one in calls}
    system.feed([("warm", calls[0])])
    assert system.transcript("warm") == wanted[calls[0].name]
    idle = resident_mb(system)

    settings = kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6, runtime__pending_mb=PENDING_MB)
    feed_noise(settings, "noise")
    named = [(f"{one.name}-{number}", one) for number in range(2) for one in calls]
    for call_id, one in named:
        feed(settings, one, call_id)
    with running(settings) as late:
        with peaks(late) as peak:
            for call_id, one in named:
                assert late.transcript(call_id) == wanted[one.name]
            late.transcript("noise")
        assert sum(worker.restarts for worker in late.supervisor.state.workers) == 0
        noise = stored_call(settings, "noise")
        assert coverage_of(noise).problems == ()
        assert (noise.segments, noise.gaps, noise.degraded) == ((), (), ())
        growth = {stage: peak[stage] - idle[stage] for stage in STAGES}
        assert max(growth.values()) < GROWTH_MB, growth
