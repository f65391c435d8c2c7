"""``callscribe bench policy`` on short recordings: real models in processes of their own, a real broker, a killed worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import soundfile
from typer.testing import CliRunner

from pipeline.bench.policy.measure import measure
from pipeline.bench.policy.variants import Variant
from pipeline.bench.recordings import recordings
from pipeline.cli.main import app
from pipeline.demo import assets
from pipeline.runtime.settings import Settings
from tests.integration.system import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SECONDS = 11.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the beginnings of two shipped calls, with references."""
    made = tmp_path_factory.mktemp("recordings")
    for name in ("billing", "delivery"):
        document = json.loads((assets.CALLS / f"{name}.json").read_text(encoding="utf-8"))
        audio, rate = soundfile.read(assets.CALLS / f"{name}.wav", dtype="int16")
        soundfile.write(made / f"{name}.wav", audio[: round(SECONDS * rate)], rate, subtype="ULAW")
        spoken = [one for one in document["utterances"] if one["end_seconds"] < SECONDS - 1.0]
        (made / f"{name}.json").write_text(json.dumps({"channels": document["channels"], "utterances": spoken}))
    return made


def test_figures_do_not_depend_on_the_number_of_processes(folder: Path) -> None:
    variants = [Variant(policy="alignatt", step_seconds=0.6), Variant(policy="local_agreement")]
    one, two = (measure(recordings(folder), variants, Settings(), jobs=jobs) for jobs in (1, 2))
    assert [comparable(figures) for figures in one] == [comparable(figures) for figures in two]
    assert [figures.name for figures in one] == ["billing", "delivery"]
    assert all(streaming.latencies and streaming.retracted == 0 for figures in one for streaming in figures.streaming)


def test_the_bench_measures_streams_feeds_and_kills(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["bench", "policy", str(folder), "--policy", "alignatt", "--no-sounds", "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    (row,) = document["policies"]
    assert row["latency_unaware_seconds"]["words"] >= 0.8 * document["timed_words"] > 10
    assert row["latency_aware_seconds"]["words"] == row["latency_unaware_seconds"]["words"]
    assert row["latency_aware_seconds"]["p50"] > row["latency_unaware_seconds"]["p50"]
    assert row["live"]["committed_words"] == row["committed_words"]
    assert (row["live"]["changed_words"], row["kill"]["changed_words"], row["retracted_words"]) == (0, 0, 0)
    assert row["kill"]["asr_restarts"] == 1
    assert list((tmp_path / ".work" / "bench").iterdir()) == []
    assert not [child for child in psutil.Process().children() if str(tmp_path) in " ".join(child.cmdline())]


def test_its_processes_end_with_it(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "bench",
        "policy",
        str(folder),
        "--no-live",
        "--no-sounds",
        "--jobs",
        "2",
    ]
    bench = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = psutil.Process(bench.pid)
    try:
        wait_for(lambda: len(process.children()) > 2 or bench.poll() is not None, 60, "measuring processes")
        children = process.children()
    finally:
        bench.kill()
        bench.wait()
    assert children
    assert not psutil.wait_procs(children, timeout=30)[1]


def comparable(figures: Any) -> Any:
    """Return the figures of a recording without processor time."""
    streaming = [
        (one.errors, one.latencies, one.shown, one.passes, one.tokens, one.erased) for one in figures.streaming
    ]
    return figures.name, figures.offline, figures.truth, streaming
