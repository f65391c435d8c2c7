"""``callscribe models``: what it prints, what it exits with, and that it asks nobody it need not."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli.common import Context
from pipeline.cli.models import register
from pipeline.core.errors import CallscribeError, NotReadyError, UsageError
from pipeline.demo.assets import MODEL
from tests.unit.asr.models import make_model


@pytest.fixture(autouse=True)
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings but the test's, an empty model cache, and a hub that refuses connections."""
    for name in [name for name in os.environ if name.startswith("CALLSCRIBE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLSCRIBE_ASR__MODEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        yield


def run(*arguments: str) -> str:
    """Return what a command prints on stdout; raises its error."""
    app = typer.Typer()

    @app.callback()
    def root(context: typer.Context) -> None:
        context.obj = Context(config=None)

    register(app)
    result = CliRunner().invoke(app, ["models", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_list_shows_the_default_model() -> None:
    row = run_json("list")["models"][0]
    assert (row["name"], row["role"], row["problem"]) == ("demo", "default", None)
    assert (row["revision"], row["languages"], row["folder"]) == ("demo@d6dd37645cee", ["en"], str(MODEL))
    assert run("list").startswith("demo  default  demo@d6dd37645cee  3 MB  en  alignatt  ")


def test_list_says_what_is_missing_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_model(tmp_path / "other", is_english=True)
    monkeypatch.setenv("CALLSCRIBE_ASR__MODELS", f"small,./nowhere,{other}")
    monkeypatch.setenv("CALLSCRIBE_ASR__PINNED", str(other))
    monkeypatch.setenv("CALLSCRIBE_ASR__MAX_LOADED", "3")
    rows = run_json("list")["models"]
    assert [(row["name"], row["role"]) for row in rows] == [
        ("demo", "default"),
        ("small", "on demand"),
        ("./nowhere", "on demand"),
        (str(other), "pinned"),
    ]
    assert rows[1]["problem"] == "not on this machine yet: callscribe models download small"
    assert "no such folder" in rows[2]["problem"]
    assert (rows[3]["problem"], rows[3]["has_card"]) == (None, False)
    assert len(run("list").splitlines()) == 4


def test_list_refuses_settings_that_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSCRIBE_ASR__PINNED", "small")
    with pytest.raises(UsageError, match=r"asr\.pinned"):
        run("list")


def test_check_loads_and_tests_the_model(tmp_path: Path) -> None:
    document = run_json("check")["model"]
    assert document["name"] == "demo"
    assert (document["self_test"], document["device"]) == ("text", "cpu")
    assert document["compute_type"].startswith("int8")
    other = make_model(tmp_path / "other", is_english=True)
    assert run_json("check", str(other))["model"]["self_test"] == "scores"
    assert "its card has no text" in run("check", str(other))


@pytest.mark.parametrize("name", ["broken", "cut", "nowhere", "small"])
def test_check_of_a_model_that_cannot_be_used_is_not_ready(tmp_path: Path, name: str) -> None:
    make_model(tmp_path / "broken", is_english=True, gain=math.nan)
    cut = make_model(tmp_path / "cut", is_english=True) / "model.bin"
    cut.write_bytes(cut.read_bytes()[:1_000])
    with pytest.raises(NotReadyError, match=r"not finite|cannot be loaded|no such folder|not in the cache"):
        run("check", name if name == "small" else f"./{name}")


def test_check_tests_even_when_the_self_test_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "broken", is_english=True, gain=math.nan)
    monkeypatch.setenv("CALLSCRIBE_ASR__SELF_TEST", "off")
    with pytest.raises(NotReadyError, match="not finite"):
        run("check", "./broken")


def test_download_of_what_is_here_prints_path_and_revision() -> None:
    assert run("download", "demo").split("  ")[:2] == [str(MODEL), "demo@d6dd37645cee"]
    assert [row["name"] for row in run_json("download", "demo", str(MODEL))["models"]] == ["demo", str(MODEL)]


@pytest.mark.parametrize("to", [(), ("--to", "models")])
def test_download_without_a_hub_is_not_ready(tmp_path: Path, to: tuple[str, ...]) -> None:
    with pytest.raises(NotReadyError, match=r"the model hub cannot be reached \(ConnectError\)") as caught:
        run("download", "small", *to)
    assert isinstance(caught.value, CallscribeError)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("command", ["list", "check", "download"])
def test_help_has_an_example(command: str) -> None:
    assert "Example: callscribe models" in run(command, "--help")
