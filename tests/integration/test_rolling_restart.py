"""Every worker of a running system is restarted in turn, under live calls: no call notices, and no other worker is bothered."""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.chaos.members import partitions_of
from pipeline.demo import assets
from pipeline.demo.feeding import feed_calls
from pipeline.replay import Replay
from pipeline.runtime.call_state import CallOutlet, partition_of
from pipeline.runtime.read import read_to_end
from pipeline.runtime.settings import Settings
from pipeline.runtime.supervise import Worker
from pipeline.stages import STAGES
from tests.integration.conftest import PARTITIONS, Kafka
from tests.integration.system import clip, replayed, running, wait_for, wait_for_words

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SECONDS = 60.0
CALL_SECONDS = 45.0  # most of the restarts
CALLS = {"roll-a": 0, "roll-b": 2, "roll-c": 0, "roll-d": 2}  # which of the shipped calls
GROUP_METADATA = 2  # version of the keys in __consumer_offsets that stand for a group (Kafka, GroupMetadataKey.json)


def group_generation(settings: Settings, stage: str) -> int:
    """Return the generation of a stage's group, as the broker's own log has it: every rebalance begins another."""
    group = f"{settings.topics.prefix}.{stage}".encode()
    key = struct.pack(f">hh{len(group)}s", GROUP_METADATA, len(group), group)
    values = [one.value() for one in read_to_end(settings, "__consumer_offsets") if one.key() == key and one.value()]
    version, size = struct.unpack_from(">hh", values[-1])
    assert version <= 3  # from 4 on the fields are packed otherwise (GroupMetadataValue.json)
    return int(struct.unpack_from(">i", values[-1], struct.calcsize(">hh") + size)[0])


@contextmanager
def fed_live(settings: Settings, calls: list[tuple[str, assets.DemoCall]]) -> Iterator[threading.Thread]:
    """Feed calls in real time in a thread of their own while the block runs."""
    outlet, stop = CallOutlet(settings), threading.Event()

    def feed() -> None:
        feed_calls(calls, outlet, speed="real", record_seconds=0.2, stop=stop)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join()
        outlet.close()


def restart(worker: Worker) -> None:
    """Have a worker end in order; returns when the one that the supervisor starts in its place is ready."""
    os.kill(worker.pid, signal.SIGTERM)
    wait_for(lambda: worker.restarts == 1 and worker.is_ready, SECONDS, f"{worker.name} is back")


def owned(settings: Settings, workers: list[Worker]) -> dict[str, frozenset[int]]:
    return {worker.name: partitions_of(settings, worker.name) for worker in workers}


def test_a_rolling_restart_is_quiet(kafka: Kafka, replay: Replay, tmp_path: Path) -> None:
    # A session that no restart outlasts, however busy the machine: it is this that keeps the partitions where they are.
    settings = kafka.ready(kafka__session_timeout_seconds=30)
    clips = {number: clip(assets.calls()[number], CALL_SECONDS, tmp_path) for number in CALLS.values()}
    calls = [(call_id, clips[number]) for call_id, number in CALLS.items()]
    assert {partition_of(call_id, PARTITIONS) for call_id in CALLS} == set(range(PARTITIONS))
    with running(settings, workers=2) as system:
        workers = system.supervisor.state.workers
        in_turn = sorted(
            workers, key=lambda one: one.name.rpartition("-")[2]
        )  # the first of every stage, then the others
        wait_for(lambda: all(owned(settings, workers).values()), SECONDS, "every worker has a partition")
        owners, generations = owned(settings, workers), {one: group_generation(settings, one) for one in STAGES}
        with fed_live(settings, calls) as feeding:
            for call_id in CALLS:
                wait_for_words(settings, call_id)
            for worker in in_turn:
                restart(worker)
                assert owned(settings, workers) == owners
            feeding.join()
            found = {call_id: system.transcript(call_id) for call_id in CALLS}
        assert [(worker.last_exit, worker.restarts) for worker in workers] == [(0, 1)] * len(workers)
        assert {one: group_generation(settings, one) for one in STAGES} == generations
    expected: dict[int, Any] = {number: replayed(replay, one) for number, one in clips.items()}
    assert found == {call_id: expected[number] for call_id, number in CALLS.items()}
