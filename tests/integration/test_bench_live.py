"""The live benchmark end to end: two short calls in real time on a broker of its own, every figure there, nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
import typer
from typer.testing import CliRunner

from pipeline.bench.live.feed_process import FeedProcess
from pipeline.bench.live.plan import FeedPlan, PlannedCall, PlannedRecording
from pipeline.bench.live.result import LATE_FEED_SECONDS
from pipeline.cli.bench_live import live
from pipeline.core.errors import FailedError
from pipeline.runtime.settings import RuntimeSettings, Settings
from pipeline.stages import STAGES

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

ARGUMENTS = ("--calls", "2", "--spread-seconds", "2", "--measure-seconds", "10", "--compositions", "2")


def test_two_calls_are_measured_and_equal_their_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSCRIBE_RUNTIME__WORK_FOLDER", str(tmp_path))
    monkeypatch.setenv("CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")  # not the broker of the deployment
    app = typer.Typer()
    app.command("live")(live)
    done = CliRunner().invoke(app, [*ARGUMENTS, "--sample-seconds", "1", "--json"])
    if done.exception is not None and not isinstance(done.exception, FailedError):
        raise done.exception
    run = json.loads(done.stdout)["runs"][0]
    assert (run["calls"], run["is_full"], run["load"]) == (2, True, "two_channel")
    assert run["transcripts"] == {"complete": 2, "compared": 2, "different": []}
    assert 0.5 < run["speech_share"] < 0.9
    assert run["word_error_rate"] < 0.2
    latency = run["word_commit_latency_seconds"]
    assert latency["is_broker_time"] is True
    for ends in ("true_ends", "own_ends"):
        assert latency[ends]["count"] > 10
        assert 0 < latency[ends]["p50"] <= latency[ends]["p95"] <= latency[ends]["max"]
    assert run["written_after_capture_seconds"]["call.speech"]["count"] > 20
    assert set(run["lag"]) == set(STAGES)
    assert run["lag"]["asr"]["max_records"] > 0
    assert run["lag"]["asr"]["max_seconds"] > 0
    processes = {process["name"]: process for process in run["processes"]}
    assert set(processes) == {*(f"{stage}-1" for stage in STAGES), "broker", "feeder", "bench"}
    assert all(process["rss_bytes"]["end"] > 0 for process in processes.values())
    assert sum(process["cores"] for process in processes.values()) > 0
    assert run["topics"]["call.audio"]["records_per_second"] > 1
    assert run["topics"]["call.audio"]["bytes_per_second"] > 1600
    assert run["feeder"]["is_complete"] is True
    is_real_time = run["feeder"]["late_p99_seconds"] <= LATE_FEED_SECONDS  # a machine that stood still is no defect
    assert run["counts"] is is_real_time is (done.exception is None), run["problems"]
    assert list((tmp_path / "bench").iterdir()) == []
    assert not [process for process in psutil.process_iter(["cmdline"]) if _names(process, str(tmp_path))]


def test_a_feeder_that_cannot_read_its_audio_names_it(tmp_path: Path) -> None:
    plan = FeedPlan(
        record_seconds=0.2,
        recordings={"a": PlannedRecording(path=str(tmp_path / "gone.wav"), roles=("agent",))},
        calls=(PlannedCall(call_id="live-0000", recording="a", start_seconds=0.0),),
    )
    plan.write(tmp_path / "plan.json")
    settings = Settings(runtime=RuntimeSettings(work_folder=str(tmp_path)))
    with FeedProcess(tmp_path / "plan.json", settings) as feeder, pytest.raises(FailedError, match=r"gone\.wav"):
        feeder.wait_ready()
    assert not feeder.is_running


def _names(process: psutil.Process, folder: str) -> bool:
    """Return whether a process was started for ``folder``."""
    return any(folder in part for part in process.info["cmdline"] or ())
