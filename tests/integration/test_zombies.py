"""Members that stood still past their session, or lost their generation, beside others that went on: nobody hears of them again."""

from __future__ import annotations

import os
import signal
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest

from pipeline.demo import assets
from pipeline.demo.feeding import feed_calls
from pipeline.replay import Replay
from pipeline.runtime.call_state import CallOutlet
from pipeline.runtime.lane_states import Progress
from pipeline.runtime.read import read_to_end
from pipeline.runtime.settings import Settings
from pipeline.sink.stores import FILE
from schemas.codec import Codec
from schemas.records import CallAnnotation, CallSegment, CallSpeech, LaneState
from tests.integration.feeds import HalfFed
from tests.integration.reading import committed_offset, is_marked, records_of, rows_of, stored_calls
from tests.integration.system import System, clip, replayed, wait_for, wait_for_words
from tests.integration.test_lost_partitions import another_worker, are_repeats
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECONDS = 60.0
LITTLE = 40  # records
CODEC = Codec()
READS = {
    "vad": "call.audio",
    "asr": "call.speech",
    "diarize": "call.speech",
    "assemble": "call.annotations",
    "sink": "call.segments",
}
WRITES: dict[str, tuple[str, type[Any]]] = {
    "vad": ("call.speech", CallSpeech),
    "asr": ("call.annotations", CallAnnotation),
    "diarize": ("call.annotations", CallAnnotation),
    "assemble": ("call.segments", CallSegment),
}


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> assets.DemoCall:
    return clip(assets.calls()[0], 40.0, tmp_path_factory.mktemp("longer"))


@contextmanager
def stopped(pid: int) -> Iterator[Callable[[], None]]:
    """Stop a process; gives what has it go on. It goes on at the end in any case."""
    process = psutil.Process(pid)

    def go_on() -> None:
        if process.is_running():
            process.send_signal(signal.SIGCONT)

    os.kill(pid, signal.SIGSTOP)
    try:
        yield go_on
    finally:
        go_on()


def log_of(system: System, worker: str) -> str:
    return (system.settings.work_folder / "logs" / f"{worker}.log").read_text(encoding="utf-8")


def commits(settings: Settings, stage: str) -> list[int]:
    """Return every offset that the group of the stage has committed in its input, in order, as the broker's own log has them."""
    group, name = f"{settings.topics.prefix}.{stage}", topic(READS[stage]).full_name(settings.topics.prefix)
    key = struct.pack(f">hh{len(group)}sh{len(name)}si", 1, len(group), group.encode(), len(name), name.encode(), 0)
    found = [message.value() for message in read_to_end(settings, "__consumer_offsets") if message.key() == key]
    return [struct.unpack_from(">hq", value)[1] for value in found if value]


def is_rising(offsets: list[int]) -> bool:
    return bool(offsets) and offsets == sorted(offsets)


# -- stages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["diarize", "assemble"])
def test_a_stage_that_stood_still_past_its_session_exits_before_it_writes(
    system: System, call: assets.DemoCall, expected: Any, stage: str
) -> None:
    settings, pid = system.settings, system.pid(stage)
    zombie = psutil.Process(pid)
    name, kind = WRITES[stage]
    feed = HalfFed(settings, call, f"zombie-{stage}")
    feed.first_half()
    feed.rest()
    with stopped(pid) as go_on:
        held = own_outputs(settings, stage, feed.call_id)
        with another_worker(system, stage):
            assert system.transcript(feed.call_id) == expected
            wait_for(lambda: is_marked(settings, stage, feed.call_id), SECONDS, "the call's states are deleted")
            assert held < own_outputs(settings, stage, feed.call_id)  # there was work in its hands
            outputs, states = (len(records_of(settings, one)) for one in (name, f"{stage}-state-changelog"))
            go_on()
            wait_for(lambda: not zombie.is_running() or zombie.status() == psutil.STATUS_ZOMBIE, SECONDS, "it exits")
            assert are_repeats(settings, name, outputs, kind)
            late = records_of(settings, f"{stage}-state-changelog")[states:]
            assert all(Progress.parse(message.headers()) is not None for message in late)  # no restoration takes them
    assert "the process stood still for" in log_of(system, f"{stage}-1")
    feed = HalfFed(settings, call, f"after-{stage}")
    feed.rest()
    assert system.transcript(feed.call_id) == expected
    assert is_rising(commits(settings, stage))


def own_outputs(settings: Settings, stage: str, call_id: str) -> int:
    """Return how many records of the call the stage has written."""
    name, kind = WRITES[stage]
    records = [CODEC.decode(one.value(), kind) for one in records_of(settings, name) if one.key() == call_id.encode()]
    return sum(getattr(record, "stage", stage) == stage for record in records)


@pytest.mark.parametrize("stage", ["vad", "asr"])
def test_what_a_dead_generation_inferred_is_discarded(
    system: System, replay: Replay, call: assets.DemoCall, longer: assets.DemoCall, expected: Any, stage: str
) -> None:
    settings = system.settings
    live, beside = f"live-{stage}", list[str]()
    ready = settings.work_folder / "run" / f"{stage}-second.ready"
    feeding = threading.Thread(target=feed_live, args=(settings, live, call))
    feeding.start()
    wait_for_words(settings, live)
    with another_worker(system, stage):
        while not ready.exists():  # the engine has no rest until the second worker is in the group
            beside.append(f"beside-{stage}-{len(beside)}")
            system.feed([(beside[-1], longer)])
            wait_for(lambda: ready.exists() or behind(settings, stage) < LITTLE, SECONDS, "the stage gets on")
    ready.unlink()
    feeding.join()
    assert system.transcript(live) == expected
    wanted = replayed(replay, longer)
    for call_id in beside:
        assert system.transcript(call_id) == wanted
    assert len(generations(settings, stage, {live, *beside})) >= 2
    for name in ("call.speech", "call.annotations"):
        assert contradictions(settings, name) == []


def behind(settings: Settings, stage: str) -> int:
    return len(records_of(settings, READS[stage])) - committed_offset(settings, stage, READS[stage])


def feed_live(settings: Settings, call_id: str, call: assets.DemoCall) -> None:
    outlet = CallOutlet(settings)
    try:
        feed_calls([(call_id, call)], outlet, speed="real", record_seconds=0.2, stop=threading.Event())
    finally:
        outlet.close()


def generations(settings: Settings, stage: str, call_ids: set[str]) -> set[int]:
    """Return the generations of the group that have recorded states of these calls."""
    values = [message.value() for message in records_of(settings, f"{stage}-state-changelog")]
    states = [CODEC.decode(value, LaneState) for value in values if value]
    return {state.generation for state in states if state.call_id in call_ids}


def contradictions(settings: Settings, name: str) -> list[tuple[Any, Any]]:
    """Return the pairs of different records on a topic that claim the same place."""
    kind = {"call.speech": CallSpeech, "call.annotations": CallAnnotation}[name]
    found: dict[tuple[str, int, int, str], Any] = {}
    pairs: list[tuple[Any, Any]] = []
    for message in records_of(settings, name):
        record: Any = CODEC.decode(message.value(), kind)
        if record.kind == "tail":
            continue
        place = (record.call_id, record.channel, record.sequence, getattr(record, "stage", "vad"))
        first = found.setdefault(place, record)
        if first != record:
            pairs.append((first, record))
    return pairs


# -- sink ------------------------------------------------------------------------------------------------------------


@contextmanager
def locked(settings: Settings) -> Iterator[Callable[[], None]]:
    """Hold the write lock of the SQLite store; gives what lets go of it."""
    connection = sqlite3.connect(settings.work_folder / FILE, isolation_level=None, timeout=SECONDS)
    connection.execute("BEGIN IMMEDIATE")

    def let_go() -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    try:
        yield let_go
    finally:
        let_go()
        connection.close()


class CommittedBackError(AssertionError):
    """The committed offset has fallen."""


@pytest.mark.parametrize("comes_back", [False, True], ids=["stays-away", "comes-back"])
def test_a_sink_that_stood_still_changes_nothing(
    system: System, call: assets.DemoCall, expected: Any, comes_back: bool
) -> None:
    """``comes_back``: its partition does, before it is done with the batch that it had in its hands when it was stopped."""
    settings = system.settings
    names = [f"{name}-{comes_back}" for name in ("whole", "zombie-sink", "beside", "later")]
    whole, feed, beside, later = (HalfFed(settings, call, name) for name in names)
    whole.rest()
    assert system.transcript(whole.call_id) == expected

    with locked(settings) as let_go:
        refused = log_of(system, "sink-1").count("database is locked")
        feed.first_half()
        wait_for(
            lambda: log_of(system, "sink-1").count("database is locked") > refused, SECONDS, "a batch is in its hands"
        )
        committed = commits(settings, "sink")[-1]
        with stopped(system.pid("sink")) as go_on, ExitStack() as other:
            let_go()
            other.enter_context(another_worker(system, "sink"))
            feed.rest()
            assert system.transcript(feed.call_id) == expected
            end = len(records_of(settings, "call.segments"))
            wait_for(lambda: commits(settings, "sink")[-1] == end, SECONDS, "the other has committed everything")
            assert end > committed
            before = stored_calls(settings)
            assert rows_of(before[feed.call_id]) == rows_of(before[whole.call_id])
            with locked(settings):
                mark = len(log_of(system, "sink-1"))
                go_on()
                wait_for(lambda: "ready partitions=0" in log_of(system, "sink-1")[mark:], SECONDS, "it knows")
                if comes_back:
                    other.close()
                    wait_for(lambda: "ready partitions=1" in log_of(system, "sink-1")[mark:], SECONDS, "it is back")
            beside.rest()
            assert system.transcript(beside.call_id) == expected
    later.rest()
    assert system.transcript(later.call_id) == expected
    after = stored_calls(settings)
    assert {call_id: after[call_id] for call_id in before} == before
    if not is_rising(found := commits(settings, "sink")):
        raise CommittedBackError(found)
