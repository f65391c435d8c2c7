"""A process dies between two effects, at every point that ARCHITECTURE.md names; the transcript is that of the replay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from pipeline.demo import assets
from pipeline.replay import Replay
from pipeline.runtime.call_state import read_state
from pipeline.runtime.crash_points import POINTS, STAGES, VARIABLE
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.runtime.settings import Settings
from pipeline.sink.coverage import coverage_of
from tests.integration.conftest import Kafka
from tests.integration.feeds import HalfFed
from tests.integration.reading import is_marked, stored_call
from tests.integration.system import System, clip, environment_of, replayed, running, wait_for
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

STREAMING = [point for point, stages in POINTS.items() if set(STAGES) <= set(stages)]
SECONDS = 60.0


@dataclass(frozen=True)
class Crashing:
    """A running system whose processes die where they are told to."""

    system: System
    folder: Path
    call: assets.DemoCall
    expected: dict[str, Any]

    def arm(self, point: str, stages: Sequence[str], what: str = "kill") -> list[Path]:
        armed = [self.folder / f"{stage}.{point}" for stage in stages]
        for path in armed:
            path.write_text(what, encoding="ascii")
        return armed

    def poison(self, call_id: str, names: Sequence[str]) -> None:
        producer = Producer({"bootstrap.servers": self.system.settings.kafka.bootstrap_servers})
        for name in names:
            producer.produce(
                topic(name).full_name(self.system.settings.topics.prefix),
                key=call_id.encode(),
                value=b"no avro",
                partition=0,
            )
        assert producer.flush(10) == 0

    def feed(self, call_id: str) -> HalfFed:
        return HalfFed(self.system.settings, self.call, call_id)

    def ingest(self, call_id: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline", "ingest", str(self.call.path), "--call-id", call_id, *options]
        roles = [text for channel, role in self.call.roles.items() for text in ("--role", f"{channel}={role}")]
        environment = environment_of(self.system.settings) | {VARIABLE: str(self.folder)}
        return subprocess.run(
            [*command, *roles, "--language", "en"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def crashing(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashing]:
    folder = tmp_path_factory.mktemp("crashes")
    call = clip(assets.calls()[2], 14.0, folder)
    expected = replayed(Replay(Settings()), call)
    assert len(expected["segments"]) >= 3
    # Static members: a worker that comes back finds its partitions where they were, and the test need not wait for a session to end.
    settings = kafka.ready(
        topics__partitions=1, kafka__session_timeout_seconds=6, runtime__instance_id="crashing", ingest__idle_seconds=4
    )
    with running(settings, environment={VARIABLE: str(folder)}) as system:
        yield Crashing(system, folder, call, expected)


def gone(armed: Sequence[Path]) -> bool:
    return not any(path.exists() for path in armed)


@pytest.mark.parametrize("point", [point for point in STREAMING if point not in ("letter_delivered", "rewound")])
def test_every_stage_dies_once(crashing: Crashing, point: str) -> None:
    dies_in_the_middle_of_a_call(crashing, point, "kill")


@pytest.mark.parametrize("point", ["decoded", "released"])
def test_an_error_nobody_expects_commits_nothing(crashing: Crashing, point: str) -> None:
    """Faust acknowledges a record whose handler raised, and goes on behind it (faust.md 2.1 a, b, e): the process ends first."""
    dies_in_the_middle_of_a_call(crashing, point, "raise")


def dies_in_the_middle_of_a_call(crashing: Crashing, point: str, what: str) -> None:
    call_id = f"call-{what}-{point}"
    feed = crashing.feed(call_id)
    feed.first_half()
    armed = crashing.arm(point, STAGES, what)
    feed.rest()
    wait_for(lambda: gone(armed), SECONDS, f"every stage has died at {point}")
    assert crashing.system.transcript(call_id) == crashing.expected
    if point == "state_deleted":
        settings = crashing.system.settings
        wait_for(lambda: all(is_marked(settings, stage, call_id) for stage in STAGES), SECONDS, "the rest is deleted")


def test_every_stage_dies_behind_a_dead_letter(crashing: Crashing) -> None:
    crashing.system.feed([("warm", crashing.call)])
    crashing.system.transcript("warm")
    armed = crashing.arm("letter_delivered", STAGES)
    crashing.poison("lettered", ["call.audio", "call.speech", "call.annotations"])
    crashing.system.feed([("lettered", crashing.call)])
    wait_for(lambda: gone(armed), SECONDS, "every stage has died behind its dead letter")
    assert crashing.system.transcript("lettered")["segments"] == crashing.expected["segments"]
    letters = [letter for letter in read_dead_letters(crashing.system.settings) if letter.call_id == "lettered"]
    assert sorted(letter.stage for letter in letters) == sorted(STAGES)


@pytest.mark.parametrize("point", [point for point, stages in POINTS.items() if "sink" in stages])
def test_the_sink_dies(crashing: Crashing, point: str) -> None:
    armed = crashing.arm(point, ("sink",))
    if point == "letters_delivered":
        crashing.poison(f"call-{point}", ["call.segments"])
    crashing.system.feed([(f"call-{point}", crashing.call)])
    wait_for(lambda: gone(armed), SECONDS, f"the sink has died at {point}")
    assert crashing.system.transcript(f"call-{point}")["segments"] == crashing.expected["segments"]


@pytest.mark.parametrize(("point", "is_complete"), [("taken", False), ("fed", True), ("left", True)])
def test_a_feed_dies(crashing: Crashing, point: str, is_complete: bool) -> None:
    call_id = f"fed-{point}"
    armed = crashing.arm(point, ("ingest",))
    assert crashing.ingest(call_id).returncode == -9
    assert gone(armed)
    if is_complete:
        assert crashing.system.transcript(call_id) == crashing.expected
        again = crashing.ingest(call_id)
        assert (again.returncode, "complete already" in again.stderr) == (4, True)
        return
    assert crashing.ingest(call_id).returncode == 4  # live, as far as anybody knows
    assert crashing.ingest(call_id, "--take-over").returncode == 0
    assert crashing.system.transcript(call_id) == crashing.expected


def test_the_worker_that_closes_a_silent_feed_dies_behind_its_record(crashing: Crashing) -> None:
    settings = crashing.system.settings
    armed = crashing.arm("idle_written", ("vad",))
    feed = crashing.feed("silent")
    feed.first_half()
    feed.up_to(0.66)  # and it vanishes in the middle of a sentence
    wait_for(lambda: gone(armed), SECONDS, "vad has died behind the record")
    wait_for(lambda: standing(settings, "silent") == "interrupted", SECONDS, "the call is interrupted")
    assert crashing.ingest("silent").returncode == 0
    assert crashing.system.transcript("silent")["state"] == "complete"
    lost = told_losses(settings, "silent", crashing.expected)
    assert {kind for kinds in lost.values() for kind in kinds} <= {
        "refused",
        "segment",
    }  # heard otherwise, or not at all
    assert ["refused"] in lost.values()


def told_losses(settings: Settings, call_id: str, expected: dict[str, Any]) -> dict[tuple[int, str, float], list[str]]:
    """Return the words of ``expected`` that a call has not, with the kinds of the spans that they fall into; the account adds up."""
    found = stored_call(settings, call_id)
    account = coverage_of(found)
    assert account.problems == ()
    heard = [(row.channel, word) for row in found.segments for word in row.words]
    lost: dict[tuple[int, str, float], list[str]] = {}
    for channel in account.channels:
        rate = channel.sample_rate_hz
        for segment in expected["segments"]:
            for word in segment["words"] if segment["channel"] == channel.channel else ():
                start, end = (round(word[name] * rate) for name in ("start_seconds", "end_seconds"))
                is_heard = any(
                    at == channel.channel and one.text == word["text"] and abs(one.start_sample - start) < rate
                    for at, one in heard
                )
                if not is_heard:
                    lost[channel.channel, word["text"], word["start_seconds"]] = sorted(
                        {span.kind for span in channel.spans if span.start_sample < end and start < span.end_sample}
                    )
    return lost


def standing(settings: Settings, call_id: str) -> str:
    state = read_state(settings, call_id)
    return "" if state is None else state.state
