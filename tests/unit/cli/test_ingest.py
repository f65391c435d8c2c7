"""Error paths of ``callscribe ingest`` that need no broker."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner, Result

from pipeline.cli import ingest
from pipeline.core.errors import InputError, NotReadyError, UsageError
from pipeline.core.recognition import POLICIES, TASKS

app = typer.Typer()
ingest.register(app)


@app.callback()
def root() -> None:
    """Make a command group of the one command, as the program is."""


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no broker be found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS", "")
    monkeypatch.setenv("CALLSCRIBE_RUNTIME__WORK_FOLDER", str(tmp_path / "work"))


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["ingest", *arguments], input=stdin)


def recording(name: str) -> str:
    soundfile.write(name, np.zeros((800, 2)), 8000)
    return name


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a.wav", "b.wav", "--call-id", "c1"], "--call-id names one call"),
        (["two", "--call-id", "c1"], "--call-id names one call, the sources are 2"),
        (["two", "--watch", "--call-id", "c1"], "--call-id names one call"),
        (["a.wav", "--call-id", "not a call"], "--call-id 'not a call' is not 1 to 128 of"),
        (["a.wav", "--watch"], "--watch watches folders, and a.wav is not one"),
        (["two", "--watch", "--json"], "--watch has no end"),
        (["-", "-"], "give it once"),
        (["a.wav", "--rate", "8000"], "say --encoding too"),
        (["a.wav", "--encoding", "g729"], "--encoding g729 is not one of"),
        (["a.wav", "--role", "agent"], "--role agent is not of the form"),
        (["a.wav", "--speakers", "many"], "--speakers many is not like 2, 2-4 or auto"),
        (["a.wav", "--controls", "none.jsonl"], "none.jsonl: cannot be read"),
    ],
)
def test_wrong_usage(arguments: list[str], reason: str) -> None:
    Path("two").mkdir()
    recording("two/a.wav")
    recording("two/b.wav")
    result = run(*arguments)
    assert isinstance(result.exception, UsageError)
    assert reason in str(result.exception)


def test_an_unknown_speed_is_wrong_usage() -> None:
    assert run("a.wav", "--speed", "fast").exit_code == UsageError.exit_code


def test_every_refused_source_is_named_on_stderr_and_the_exit_code_is_4() -> None:
    Path("empty").mkdir()
    Path("text.wav").write_text("not audio", encoding="utf-8")
    result = run("empty", "text.wav", "nowhere.wav", recording("fine.wav"), "--role", "7=agent")
    assert result.exit_code == InputError.exit_code
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("callscribe: empty: is a folder without recordings")
    assert lines[1].startswith("callscribe: text.wav: is not audio")
    assert lines[2] == "callscribe: nowhere.wav: does not exist"
    assert lines[3] == "callscribe: fine.wav: has 2 channel(s), a role names channel 7"
    assert lines[4:] == ["0 calls fed, 4 not"]


def test_refusals_as_json() -> None:
    result = run("nowhere.wav", "--json")
    assert result.exit_code == InputError.exit_code
    (call,) = json.loads(result.stdout)["calls"]
    assert (call["source"], call["outcome"], call["reason"]) == ("nowhere.wav", "refused", "does not exist")


def test_no_broker_is_told_before_success() -> None:
    result = run(recording("fine.wav"))
    assert isinstance(result.exception, NotReadyError)
    assert "callscribe broker start" in str(result.exception)
    assert result.stdout == ""


def test_the_help_has_examples() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "callscribe ingest call.wav --role 0=agent" in result.stdout


def test_the_choices_are_those_of_the_recogniser() -> None:
    assert (tuple(ingest.PolicyName), tuple(ingest.TaskName)) == (POLICIES, TASKS)
