"""``callscribe bench diarization``: its options, its document, what it writes; who speaks is scripted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner, Result

from pipeline.bench.diarization import measure as measuring
from pipeline.bench.diarization import scoring
from pipeline.bench.diarization.figures import Accuracy, DiarizationErrors
from pipeline.bench.diarization.recordings import CALLS, Recording, Speech
from pipeline.cli.bench import register
from pipeline.cli.common import Context
from pipeline.core.errors import NotReadyError, UsageError
from pipeline.core.rttm import read_rttm
from tests.unit.bench.diarization.scripted import ScriptedTurns, script_diarize

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> Result:
    app = typer.Typer()

    @app.callback()
    def root(context: typer.Context) -> None:
        context.obj = Context(config=None)

    register(app)
    result = CliRunner().invoke(app, ["bench", "diarization", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def scripted_accuracy(recording: Recording, output: Speech, audio_seconds: float) -> Accuracy:
    return Accuracy(strict=DiarizationErrors(total=50.0, missed=5.0), has_words=True, speakers=len(output))


@pytest.fixture
def diarized(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTurns:
    """Diarize says what the script says, and nothing is scored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLSCRIBE_DIARIZE__ENGINE", "channel")
    monkeypatch.setattr(measuring, "check_metrics", lambda: None)
    monkeypatch.setattr(scoring, "check_metrics", lambda: None)
    monkeypatch.setattr(measuring, "accuracy", scripted_accuracy)
    return script_diarize(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One of the shipped calls."""
    folder = tmp_path / "calls"
    folder.mkdir()
    for suffix in (".wav", ".rttm", ".json"):
        shutil.copy(CALLS / f"mulaw-01{suffix}", folder)
    return folder


def test_one_document_and_the_files_asked_for(diarized: ScriptedTurns, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "mulaw-01.wav", folder / "other.wav")
    result = run(
        *(str(folder), "--speakers", "2-3", "--json", "--plot", str(tmp_path / "turns.svg")),
        *("--rttm", str(tmp_path / "out")),
    )
    document = json.loads(result.stdout)
    (row,) = document["recordings"]
    assert (row["name"], row["found_speakers"], row["speakers"]) == ("mulaw-01", 2, 2)
    assert row["diarization_error"]["collar_0"]["rate"] == 0.1
    assert row["latency_seconds"]["p95"] > row["latency_seconds"]["p50"] > 0
    assert (document["min_speakers"], document["max_speakers"]) == (2, 3)
    assert document["unreferenced"] == [str(folder / "other.wav")]
    assert {(started.min_speakers, started.max_speakers) for started in diarized.started} == {(2, 3)}
    assert "other.wav: no reference, left out" in result.stderr
    assert "mulaw-01: 65 s, DER 10.0 %" in result.stderr
    assert ElementTree.parse(tmp_path / "turns.svg").getroot().tag.endswith("svg")
    turns = read_rttm((tmp_path / "out/mulaw-01.rttm").read_text())
    assert {turn.speaker for turn in turns} == {"s1", "s2"}
    assert {turn.file for turn in turns} == {"mulaw-01"}


def test_without_json_there_is_a_table(diarized: ScriptedTurns, folder: Path) -> None:
    result = run(str(folder))
    assert "mulaw-01" in result.stdout
    assert "engine channel" in result.stdout
    assert diarized.started[0].min_speakers is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--plot", "plot.png"), "plot.png"),
        (("--plot", "none/plot.svg"), "none/plot.svg"),
        (("--rttm", "calls/mulaw-01.wav"), "is not a folder"),
        (("--speakers", "many"), "--speakers many"),
    ],
)
def test_wrong_options_are_told_before_anything_is_measured(
    diarized: ScriptedTurns, folder: Path, arguments: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        run(str(folder), *arguments)
    assert not diarized.started


def test_a_folder_without_references_is_refused(diarized: ScriptedTurns, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no recording with a reference"):
        run(str(tmp_path / "empty"))


def test_a_baseline_needs_models(diarized: ScriptedTurns, folder: Path) -> None:
    with pytest.raises(NotReadyError, match="--baseline"):
        run(str(folder), "--baseline")


def test_without_the_extra_one_line_says_what_to_do() -> None:
    program = (
        "import sys\n"
        "for name in ('pyannote', 'pyannote.metrics', 'torch', 'diart'): sys.modules[name] = None\n"
        "from pipeline.cli.main import run\nsys.argv = ['callscribe', 'bench', 'diarization']\nrun()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert "extra `diarization`" in line
    assert "make setup-full" in line
