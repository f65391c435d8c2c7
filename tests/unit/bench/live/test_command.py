from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli.bench_live import live
from pipeline.core.errors import NotReadyError, UsageError
from pipeline.diarize import loading

Invoke = Callable[..., Any]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the command; errors are raised, as `pipeline.cli.main.run` sees them."""
    monkeypatch.setenv("CALLSCRIBE_RUNTIME__WORK_FOLDER", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command("live")(live)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return run


@pytest.mark.parametrize("arguments", [(), ("--calls", "3", "--find")])
def test_one_of_calls_and_find_is_needed(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--calls N or --find"):
        invoke(*arguments)


@pytest.mark.parametrize(
    "arguments", [("--calls", "0"), ("--calls", "2", "--measure-seconds", "0"), ("--calls", "2", "--policy", "none")]
)
def test_what_is_out_of_range_is_refused(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    assert invoke(*arguments).exit_code == 2


def test_a_model_that_is_not_there_is_told_before_anything_starts(invoke: Invoke, tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="no-such-model"):
        invoke("--calls", "1", "--model", str(tmp_path / "no-such-model"))
    assert list(tmp_path.iterdir()) == []


def test_one_load_at_a_time(invoke: Invoke) -> None:
    with pytest.raises(UsageError, match="--mono or --mixed"):
        invoke("--calls", "1", "--mono", "--mixed")


def test_mixed_calls_need_the_diarization_extra(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "EXTRA", ("no_such_package",))
    with pytest.raises(NotReadyError, match=r"no_such_package of the extra `diarization` cannot be found"):
        invoke("--calls", "1", "--mixed")
    assert list(tmp_path.iterdir()) == []


def test_mixed_calls_need_an_engine_that_tells_speakers_apart(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLSCRIBE_DIARIZE__ENGINE", "channel")
    with pytest.raises(UsageError, match=r"diarize\.engine is channel"):
        invoke("--calls", "1", "--mixed")
    assert list(tmp_path.iterdir()) == []


def test_mixed_calls_need_the_models(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "EXTRA", ())
    monkeypatch.setenv("CALLSCRIBE_DIARIZE__SEGMENTATION", str(tmp_path / "gone"))
    with pytest.raises(NotReadyError, match="gone"):
        invoke("--calls", "1", "--mixed")
    assert list(tmp_path.iterdir()) == []


def test_help_has_an_example(invoke: Invoke) -> None:
    assert "callscribe bench live --calls" in invoke("--help").stdout
    assert "callscribe bench live --mixed" in invoke("--help").stdout
