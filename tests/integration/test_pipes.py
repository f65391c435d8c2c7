"""Pipes that feed a call one after the other: what comes cannot be read again, so each goes on where vad says that the call stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.demo import assets
from pipeline.sink.coverage import coverage_of
from pipeline.sink.stores.base import StoredCall
from schemas.codec import Codec
from schemas.records import CallAudio
from tests.integration.conftest import Kafka
from tests.integration.reading import records_of, stored_call
from tests.integration.system import System, clip, environment_of, running, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECONDS = 60.0


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.int16]:
    call = clip(assets.calls()[2], 14.0, tmp_path_factory.mktemp("calls"))
    found: NDArray[np.int16] = soundfile.read(call.path, dtype="int16")[0]
    return found


@pytest.fixture(scope="module")
def system(kafka: Kafka) -> Iterator[System]:
    settings = kafka.ready(
        topics__partitions=1, kafka__session_timeout_seconds=6, ingest__idle_seconds=3, ingest__record_seconds=0.5
    )
    with running(settings) as running_system:
        yield running_system


def pipe(system: System, call_id: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline", "ingest", "-", "--call-id", call_id]
    form = ("--encoding", "pcm_s16le", "--rate", "8000", "--channels", "2", "--language", "en")
    return subprocess.Popen(
        [*command, *form, *options], env=environment_of(system.settings), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )


def write(process: subprocess.Popen[bytes], part: NDArray[np.int16]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(part.tobytes())
        process.stdin.flush()
    except BrokenPipeError:
        assert process.stderr is not None
        raise AssertionError(process.stderr.read().decode()) from None


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    text = process.communicate(timeout=90)[1]
    return process.returncode, text.decode()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def records(system: System, call_id: str) -> list[CallAudio]:
    found = [Codec().decode(message.value(), CallAudio) for message in records_of(system.settings, "call.audio")]
    return [record for record in found if record.call_id == call_id]


def samples_of(system: System, call_id: str) -> int:
    """Return how much of channel 0 is in the log; of what is in a pipe, a reader may have more in its hands."""
    return sum(
        len(one.audio.data) // 2 for one in records(system, call_id) if one.audio is not None and not one.channel
    )


def wait_for_samples(system: System, call_id: str) -> None:
    wait_for(lambda: samples_of(system, call_id) > 0, SECONDS, "it is fed")


def assert_whole(system: System, call_id: str, samples: NDArray[np.int16]) -> StoredCall:
    system.transcript(call_id)
    stored = stored_call(system.settings, call_id)
    account = coverage_of(stored)
    assert account.problems == ()
    assert [one.accepted_samples for one in account.channels] == [len(samples)] * 2
    assert (stored.gaps, stored.degraded) == ((), ())
    for channel in (0, 1):
        fed = [record for record in records(system, call_id) if record.channel == channel]
        assert [record.sequence for record in fed] == list(range(len(fed)))
        assert b"".join(one.audio.data for one in fed if one.audio is not None) == samples[:, channel].tobytes()
    return stored


def test_a_pipe_goes_on_where_the_one_before_it_was_stopped(system: System, samples: NDArray[np.int16]) -> None:
    cut = len(samples) // 2 + 1234  # in the middle of a record
    first = pipe(system, "stopped")
    write(first, samples[:cut])
    wait_for_samples(system, "stopped")
    first.send_signal(signal.SIGTERM)
    assert first.wait(SECONDS) == 130  # before its pipe is closed: that would be the end of the call
    first.communicate()
    second = pipe(system, "stopped")
    write(second, samples[cut:])
    assert ended(second)[0] == 0
    stored = assert_whole(system, "stopped", samples)
    assert {event.kind for event in stored.events} >= {"interrupted", "resumed", "ended"}


@pytest.mark.parametrize("is_vad_down", [False, True], ids=["", "while-vad-is-down"])
def test_a_pipe_takes_over_from_one_that_was_killed(
    system: System, samples: NDArray[np.int16], is_vad_down: bool
) -> None:
    """vad alone knows how far the other one came, and says so when it has read that nothing more of it counts."""
    call_id = f"killed-{is_vad_down}"
    first = pipe(system, call_id)
    write(first, samples[: len(samples) // 2])
    wait_for_samples(system, call_id)
    kill(first)
    if is_vad_down:
        os.kill(system.pid("vad"), signal.SIGKILL)
    second = pipe(system, call_id, "--take-over")
    write(second, samples[samples_of(system, call_id) :])
    assert ended(second)[0] == 0
    assert_whole(system, call_id, samples)


def test_a_pipe_that_is_killed_before_it_feeds_anything_leaves_the_call_to_the_next(
    system: System, samples: NDArray[np.int16]
) -> None:
    first = pipe(system, "thrice")
    write(first, samples[: len(samples) // 3])
    wait_for_samples(system, "thrice")
    kill(first)
    rest = samples[samples_of(system, "thrice") :]
    second = pipe(system, "thrice", "--take-over")
    os.kill(system.pid("vad"), signal.SIGSTOP)  # which the second one waits for
    try:
        write(second, rest[:8000])
        wait_for(lambda: any(one.feed_epoch == 2 for one in records(system, "thrice")), SECONDS, "it says it is there")
    finally:
        kill(second)
        os.kill(system.pid("vad"), signal.SIGCONT)
    third = pipe(system, "thrice", "--take-over")
    write(third, rest)
    assert ended(third)[0] == 0
    assert {record.feed_epoch for record in records(system, "thrice") if record.channel >= 0} == {1, 3}
    assert_whole(system, "thrice", samples)


def test_a_pipe_that_is_stopped_while_paused_is_paused_still_when_the_next_one_comes(
    system: System, samples: NDArray[np.int16], tmp_path: Path
) -> None:
    """Where the pause ends is counted over both: nothing of it is recognised, and the positions are those of the recording."""
    controls = tmp_path / "controls.jsonl"
    controls.write_text(
        '{"at_seconds": 3.0, "kind": "pause"}\n{"at_seconds": 9.0, "kind": "resume"}\n', encoding="utf-8"
    )
    cut = 6 * 8000
    first = pipe(system, "paused", "--controls", str(controls))
    write(first, samples[:cut])
    wait_for(lambda: any(one.kind == "pause" for one in records(system, "paused")), SECONDS, "it is paused")
    first.send_signal(signal.SIGTERM)
    assert first.wait(SECONDS) == 130
    first.communicate()
    (stopped,) = [one for one in records(system, "paused") if one.kind == "interrupted"]
    assert 3 * 8000 <= stopped.start_sample <= cut  # it may have been stopped before it had read all that was written
    second = pipe(system, "paused", "--controls", str(controls))
    write(second, samples[stopped.start_sample :])
    assert ended(second)[0] == 0
    system.transcript("paused")
    fed = [one for one in records(system, "paused") if one.channel == 0 and one.audio is not None]
    assert [one.kind for one in records(system, "paused") if one.kind in ("pause", "resume")] == ["pause", "resume"]
    audio = b"".join(one.audio.data for one in fed if one.audio is not None)
    assert audio == samples[: 3 * 8000, 0].tobytes() + samples[9 * 8000 :, 0].tobytes()
    assert max(one.start_sample + len(one.audio.data) // 2 for one in fed if one.audio is not None) == len(samples)
