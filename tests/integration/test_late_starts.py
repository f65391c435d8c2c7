"""A stage was away since before a call began, and retention took the call's first records meanwhile: the call completes, with gaps."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pipeline.demo import assets
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.sink.coverage import coverage_of
from schemas.codec import Codec
from schemas.records import CallAnnotation, CallAudio, CallSegment, CallSpeech
from tests.integration.conftest import Kafka
from tests.integration.reading import committed_offset, delete_records, records_of, stored_call
from tests.integration.system import System, running, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECONDS = 60.0
INPUTS: dict[str, tuple[str, type[Any]]] = {
    "vad": ("call.audio", CallAudio),
    "asr": ("call.speech", CallSpeech),
    "diarize": ("call.speech", CallSpeech),
    "assemble": ("call.annotations", CallAnnotation),
    "sink": ("call.segments", CallSegment),
}
CONTENT = {"vad": "audio", "asr": "speech", "diarize": "speech", "assemble": "words", "sink": "segment"}
CODEC = Codec()


@pytest.fixture(scope="module")
def system(kafka: Kafka) -> Iterator[System]:
    # Static members: a worker that comes back finds its partition where it was.
    settings = kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6, runtime__instance_id="late")
    with running(settings) as running_system:
        yield running_system


class Away:
    """A stage that stands still while a call is fed, and finds only a part of it when it comes back."""

    def __init__(self, system: System, stage: str) -> None:
        self.system = system
        self.stage = stage
        self.input, self.kind = INPUTS[stage]
        self._pid = system.pid(stage)

    def fed(self, call: assets.DemoCall, call_id: str) -> list[Any]:
        """Stop the stage, feed the call whole; return its records on the input as (offset, record)."""
        settings = self.system.settings
        wait_for(
            lambda: committed_offset(settings, self.stage, self.input) in (self._end(), -1001),
            SECONDS,
            "nothing is left to read",
        )
        os.kill(self._pid, signal.SIGSTOP)
        self.system.feed([(call_id, call)])
        ends = 2 if self.stage == "assemble" else 1
        found: list[Any] = []

        def is_whole() -> bool:
            found[:] = [one for one in self._all() if one[1].call_id == call_id]
            return [record.kind for _, record in found].count("ended") == ends

        wait_for(is_whole, SECONDS, "the call is on the topic")
        return found

    def delete(self, offset: int) -> None:
        """Delete what the input holds before ``offset``."""
        delete_records(self.system.settings, self.input, offset)

    def back(self) -> None:
        """Have the supervisor start the stage anew."""
        os.kill(self._pid, signal.SIGKILL)

    def _all(self) -> list[tuple[int, Any]]:
        return [
            (one.offset(), CODEC.decode(one.value(), self.kind)) for one in records_of(self.system.settings, self.input)
        ]

    def _end(self) -> int:
        found = records_of(self.system.settings, self.input)
        return found[-1].offset() + 1 if found else 0


def place(found: Sequence[tuple[int, Any]], stage: str, share: float) -> int:
    """Return the offset of the record of content at ``share`` of the call's; nothing before it is left."""
    content = [offset for offset, record in found if record.kind == CONTENT[stage] and record.channel >= 0]
    return content[int(len(content) * share)]


def test_the_start_was_deleted_before_a_stage_read_it(
    system: System, call: assets.DemoCall, expected: Any, stage: str
) -> None:
    away = Away(system, stage)
    found = away.fed(call, f"late-{stage}")
    away.delete(place(found, stage, 0.5))
    away.back()
    transcript = system.transcript(f"late-{stage}")
    assert [channel["role"] for channel in transcript["channels"]] == [one["role"] for one in expected["channels"]]
    assert transcript["duration_seconds"] == expected["duration_seconds"]
    if stage == "diarize":  # who speaks on which channel stands in the start
        assert transcript == expected
    else:
        assert {(gap["channel"], gap["reason"]) for gap in transcript["gaps"]} == {
            (0, "deleted_records"),
            (1, "deleted_records"),
        }
        assert transcript["segments"]
    _adds_up(system, f"late-{stage}")


def test_the_end_alone_is_left(system: System, call: assets.DemoCall, expected: Any, stage: str) -> None:
    away = Away(system, stage)
    found = away.fed(call, f"end-{stage}")
    away.delete(min(offset for offset, record in found if record.kind == "ended"))
    away.back()
    transcript = system.transcript(f"end-{stage}")
    if stage != "diarize":
        assert [(gap["channel"], gap["start_seconds"], gap["reason"]) for gap in transcript["gaps"]] == [
            (0, 0.0, "deleted_records"),
            (1, 0.0, "deleted_records"),
        ]
        assert transcript["duration_seconds"] == expected["duration_seconds"]
        assert transcript["segments"] == [] or stage == "assemble"  # diarize may end before asr has said its last words
    _adds_up(system, f"end-{stage}")


def _adds_up(system: System, call_id: str) -> None:
    account = coverage_of(stored_call(system.settings, call_id))
    assert account.problems == ()
    assert len(account.channels) == 2
    assert all(channel.covered_samples == channel.accepted_samples for channel in account.channels)
    assert list(read_dead_letters(system.settings)) == []


@pytest.fixture(params=list(INPUTS))
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)
