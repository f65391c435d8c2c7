"""The command line: what is missing is said in one line, with the exit code of its kind."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pipeline.demo.training import __main__ as command
from pipeline.demo.training.plan import MINUTES


def test_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    options = command.parser().parse_args(["all"])
    assert options.work == Path(".work/demo-model")
    assert (options.clips, options.validation, options.minutes, options.steps) == (18_000, 250, None, None)
    with pytest.raises(SystemExit):
        command.main(["train", "--help"])
    assert f"({MINUTES:g})" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["train", "--minutes", "1", "--steps", "2"], ["speech", "--clips", "0"], ["bake"], [], ["adopt", "--clips", "3"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("usage:")


@pytest.mark.parametrize("name", ["all", "train", "convert"])
def test_missing_torch_exits_with_3(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.main([name, "--work", str(tmp_path)]) == 3
    assert capsys.readouterr().err == "demo-model: torch is not installed: run make setup-full\n"
    assert not list(tmp_path.iterdir())


def test_adopt_without_a_model_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["adopt", "--work", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"demo-model: {tmp_path / 'model'} has no model.bin: convert a checkpoint first\n"


def test_training_without_speech_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert command.main(["train", "--work", str(tmp_path)]) == 3
    assert "make them first" in capsys.readouterr().err


def test_evaluation_without_a_model_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["evaluate", "--work", str(tmp_path)]) == 3
    assert str(tmp_path / "model") in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_all_runs_every_step_in_order_but_adopt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []
    for name in ("speech", "train", "convert", "evaluate", "adopt"):
        monkeypatch.setattr(command, name, lambda options, name=name: ran.append(name))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert command.main(["all", "--work", str(tmp_path)]) == 0
    assert ran == ["speech", "train", "convert", "evaluate"]


def test_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(command.COMMANDS, "speech", interrupted)
    assert command.main(["speech", "--work", str(tmp_path)]) == 130
