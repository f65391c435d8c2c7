"""Samples that an engine does not survive, whichever record brings them to it: they are lost and said to be, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core.passing import CRASHED
from pipeline.demo import assets
from pipeline.replay import Replay
from pipeline.runtime.crash_points import VARIABLE
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.sink.coverage import coverage_of
from pipeline.vad.state import WINDOW
from schemas.codec import Codec
from schemas.records import CallSpeech
from tests.integration.conftest import Kafka
from tests.integration.reading import records_of, stored_call
from tests.integration.system import System, clip, replayed, running, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MARGIN_SECONDS = 1.0


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crashes")


@pytest.fixture(scope="module")
def system(kafka: Kafka, crashes: Path) -> Iterator[System]:
    settings = kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6, runtime__instance_id="deadly")
    with running(settings, environment={VARIABLE: str(crashes)}) as running_system:
        yield running_system


@pytest.mark.parametrize("stage", ["asr", "vad"])
def test_samples_that_kill_are_lost_alone(
    system: System,
    call: assets.DemoCall,
    expected: dict[str, Any],
    replay: Replay,
    crashes: Path,
    tmp_path: Path,
    stage: str,
) -> None:
    deadly = f"deadly-{stage}"
    other = clip(assets.calls()[0], 14.0, tmp_path)
    system.feed([(f"sound-{stage}", call)])
    assert system.transcript(f"sound-{stage}") == expected
    place, samples = loudest(system, f"sound-{stage}")
    marker = samples if stage == "asr" else samples.astype(np.float32) / np.float32(32768)
    armed = crashes / f"{stage}.inferring"
    before = restarts(system, stage)
    armed.write_text(f"kill on {marker.tobytes().hex()}", encoding="ascii")
    try:
        system.feed([(deadly, call), (f"beside-{stage}", other)])
        wait_for(lambda: bool(letters(system, deadly)), 120, "the record is condemned")
        found = system.transcript(deadly)
        assert system.transcript(f"beside-{stage}") == replayed(replay, other)
    finally:
        armed.unlink()
    assert 3 <= restarts(system, stage) - before <= 6
    (letter,) = letters(system, deadly)
    assert (letter.stage, letter.reason) == (stage, "CondemnedError")

    row = next(row for row in stored_call(system.settings, deadly).degraded if row.reason == "CondemnedError")
    assert (row.channel, row.offset) == (0, letter.offset)
    account = coverage_of(stored_call(system.settings, deadly))
    assert (account.state, account.problems) == ("complete", ())
    spans = [
        (span.start_sample, span.end_sample)
        for span in account.channels[0].spans
        if (span.kind, span.reason) == ({"asr": "refused", "vad": "gap"}[stage], CRASHED)
    ]
    assert any(start <= place and place + WINDOW // 2 <= end for start, end in spans)
    assert sum(end - start for start, end in spans) < 5 * 8_000
    first = min(start for start, _ in spans) / 8_000
    assert [one for one in found["segments"] if is_before(one, first)] == [
        one for one in expected["segments"] if is_before(one, first)
    ]
    assert [one for one in found["segments"] if one["channel"] != 0] == [
        one for one in expected["segments"] if one["channel"] != 0
    ]


def is_before(segment: dict[str, Any], seconds: float) -> bool:
    return segment["channel"] == 0 and segment["end_seconds"] < seconds - MARGIN_SECONDS


def loudest(system: System, call_id: str) -> tuple[int, NDArray[np.int16]]:
    """Return the loudest of vad's windows of channel 0 that lies within a piece of speech: where it begins, and its samples."""
    codec = Codec()
    found: dict[int, NDArray[np.int16]] = {}
    for message in records_of(system.settings, "call.speech"):
        if message.key() != call_id.encode():
            continue
        record = codec.decode(message.value(), CallSpeech)
        if record.channel != 0 or record.speech is None:
            continue
        samples = np.frombuffer(record.speech.audio, dtype="<i2")
        for begin in range(-2 * record.start_sample % WINDOW, len(samples) - WINDOW + 1, WINDOW):
            found[record.start_sample + begin // 2] = samples[begin : begin + WINDOW]
    return max(found.items(), key=lambda item: float(np.abs(item[1].astype(np.float64)).sum()))


def letters(system: System, call_id: str) -> list[Any]:
    return [letter for letter in read_dead_letters(system.settings) if letter.call_id == call_id]


def restarts(system: System, stage: str) -> int:
    return next(worker for worker in system.supervisor.state.workers if worker.stage == stage).restarts
