"""Calls whose end never comes: no stage keeps them for longer than the input holds them, and what is missing is a gap by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pipeline.core.errors import CallRefusedError
from pipeline.core.ids import CALL_CHANNEL
from pipeline.demo import assets
from pipeline.runtime.call_state import read_state
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.runtime.settings import Settings
from pipeline.sink.coverage import coverage_of
from pipeline.stages import STREAM_STAGES, spec
from schemas.codec import Codec
from tests.integration.conftest import Kafka
from tests.integration.feeds import HalfFed
from tests.integration.reading import delete_records, is_let_go, records_of, states_of, stored_call
from tests.integration.system import System, running, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SECONDS = 60.0
CODEC = Codec()


@pytest.fixture(scope="module")
def system(kafka: Kafka) -> Iterator[System]:
    settings = kafka.ready(
        topics__partitions=1, kafka__session_timeout_seconds=6, ingest__idle_seconds=3, runtime__instance_id="unheard"
    )
    with running(settings) as running_system:
        yield running_system


def state_of(settings: Settings, call_id: str) -> str | None:
    found = read_state(settings, call_id)
    return found and found.state


def let_go(settings: Settings, call_id: str) -> None:
    """Return when no stage keeps anything of the call but the mark of its end, if that."""
    for stage in STREAM_STAGES:
        wait_for(lambda stage=stage: is_let_go(settings, stage, call_id), SECONDS, f"{stage} has let it go")  # type: ignore[misc]


def test_an_interrupted_call_is_ended_when_retention_has_deleted_it(system: System, call: assets.DemoCall) -> None:
    settings = system.settings
    gone, back = HalfFed(settings, call, "gone"), HalfFed(settings, call, "back")
    for feed in (gone, back):
        feed.first_half()
        wait_for(lambda feed=feed: state_of(settings, feed.call_id) == "interrupted", SECONDS, "the feed is closed")  # type: ignore[misc]
    delete_records(settings, "call.audio")
    HalfFed(settings, call, "back", take_over=True).rest()
    system.kill("vad")  # a worker looks when it has started, and every minute
    found = system.transcript("gone")
    assert found["segments"]
    assert found["gaps"] == []
    assert coverage_of(stored_call(settings, "gone")).problems == ()
    assert state_of(settings, "gone") == "complete"
    with pytest.raises(CallRefusedError, match="complete"):
        HalfFed(settings, call, "gone", take_over=True)
    system.transcript("back")
    let_go(settings, "gone")


@pytest.mark.parametrize("stage", STREAM_STAGES)
def test_a_call_is_ended_whose_rest_was_deleted_with_its_end(system: System, call: assets.DemoCall, stage: str) -> None:
    """The stage stood still in the middle of the call for longer than its topic keeps records; nothing of the call comes behind it."""
    settings, call_id = system.settings, f"rest-{stage}"
    letters = len(list(read_dead_letters(settings)))
    feed = HalfFed(settings, call, call_id)
    feed.first_half()
    wait_for(lambda: bool(states_of(settings, call_id, CALL_CHANNEL, stage)), SECONDS, "the stage remembers the call")
    pid = system.pid(stage)
    os.kill(pid, signal.SIGSTOP)
    try:
        feed.rest()
        wait_for(lambda: has_ended(settings, stage, call_id), SECONDS, "the end of the call is written")
        delete_records(settings, spec(stage).input)
    finally:
        os.kill(pid, signal.SIGKILL)
    found = system.transcript(call_id)
    account = coverage_of(stored_call(settings, call_id))
    assert account.problems == ()
    if stage != "diarize":  # which had said all that it says of separate channels
        assert {gap["reason"] for gap in found["gaps"]} >= {"deleted_records"}
        assert all(channel.totals["gap"] > 0 for channel in account.channels)
    assert len(list(read_dead_letters(settings))) == letters
    let_go(settings, call_id)


def has_ended(settings: Settings, stage: str, call_id: str) -> bool:
    """Return whether every writer of the stage's input has ended the call."""
    reads = spec(stage)
    found = [one for one in records_of(settings, reads.input) if one.key() == call_id.encode()]
    return [CODEC.decode(one.value(), reads.reads).kind for one in found].count("ended") == len(reads.writers)
