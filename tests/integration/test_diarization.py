"""A call with both speakers on one channel, with the shipped models: the same labels whatever happens to the diarize worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.demo import assets
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import FeedOptions, records
from pipeline.runtime.call_state import CallOutlet
from pipeline.runtime.tail import follow
from tests.integration.conftest import Kafka
from tests.integration.system import System, running, without_ids

pytestmark = [pytest.mark.integration, pytest.mark.diarization, pytest.mark.timeout(400)]

SECONDS = 40
ENGINE = {"CALLSCRIBE_DIARIZE__ENGINE": "diart", "CALLSCRIBE_ASSEMBLE__ROLE_RULE": "first"}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sides of a shipped call on one channel, 8 kHz mu-law."""
    audio, rate = soundfile.read(assets.calls()[0].path, dtype="int16")
    mono = audio[: SECONDS * rate].astype(np.int32).sum(axis=1)
    path = tmp_path_factory.mktemp("mono") / "mono.wav"
    soundfile.write(path, np.clip(mono, -32768, 32767).astype(np.int16), rate, subtype="ULAW")
    return path


@pytest.fixture(scope="module")
def expected(recording: Path) -> dict[str, Any]:
    """Return the transcript of the replay, in a process of its own: torch warns when it is imported."""
    command = [sys.executable, "-m", "pipeline", "replay", str(recording), "--role", "0=mixed", "--format", "json"]
    done = subprocess.run(
        command, env={**os.environ, **ENGINE}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    document = without_ids(json.loads(done.stdout))
    assert len({segment["speaker"] for segment in document["segments"]} - {"unknown"}) >= 2
    return document


@pytest.fixture(scope="module")
def system(kafka: Kafka) -> Iterator[System]:
    settings = kafka.ready(topics__partitions=1, diarize__engine="diart", assemble__role_rule="first")
    with running(settings) as started:
        yield started


def feed(system: System, call_id: str, path: Path, *, until: threading.Event | None = None) -> None:
    """Feed the recording; the second half waits for ``until``."""
    outlet = CallOutlet(system.settings)
    try:
        delivery = outlet.delivery()
        with open_audio(path, name=path.name) as audio:
            fed = list(records(audio, FeedOptions(roles={0: "mixed"}), call_id=call_id, capture_start_ms=0))
        for record in fed[: len(fed) // 2]:
            delivery.send(record)
        delivery.wait()
        if until is not None:
            assert until.wait(120)
        for record in fed[len(fed) // 2 :]:
            delivery.send(record)
        delivery.wait()
    finally:
        outlet.close()


def test_a_mono_call_has_the_speakers_of_the_replay(system: System, recording: Path, expected: dict[str, Any]) -> None:
    feed(system, "whole", recording)
    found = system.transcript("whole")
    assert found == expected
    assert {speaker["role"] for speaker in found["speakers"]} == {"agent", "customer"}


def test_a_killed_diarize_worker_gives_the_same_labels(
    system: System, recording: Path, expected: dict[str, Any]
) -> None:
    """It is killed when it has named speakers, and again in the middle of what comes then."""
    is_back = threading.Event()
    feeding = threading.Thread(target=feed, args=(system, "killed", recording), kwargs={"until": is_back})
    feeding.start()
    try:
        for record in follow(system.settings, call_id="killed", from_beginning=True):
            if record is not None and getattr(record, "turns", None) is not None and record.turns.turns:
                break
        system.kill("diarize")
    finally:
        is_back.set()
    feeding.join()
    system.kill("diarize")
    assert system.transcript("killed") == expected


def test_a_two_channel_call_beside_it_needs_no_models(system: System) -> None:
    call = assets.calls()[1]
    system.feed([("two", call)])
    found = system.transcript("two")
    assert {segment["speaker"] for segment in found["segments"]} == {"agent", "customer"}
    assert "speakers" not in found
