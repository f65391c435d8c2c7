"""The command line: what is missing is said in one line, with the exit code of its kind."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pipeline.diarize.training import __main__ as command
from pipeline.diarize.training.plan import STEPS


def test_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    options = command.parser().parse_args(["all"])
    assert options.folder == Path(".work/segmentation-training")
    assert (options.examples, options.checked, options.minutes, options.steps) == (16_000, 500, None, None)
    with pytest.raises(SystemExit):
        command.main(["train", "--help"])
    assert f"({STEPS})" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--minutes", "1", "--steps", "2"],
        ["examples", "--examples", "0"],
        ["bake"],
        [],
        ["adopt", "--seed", "3"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("usage:")


@pytest.mark.parametrize("name", ["all", "examples", "train", "evaluate", "adopt"])
def test_missing_torch_exits_with_3(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.main([name, "--folder", str(tmp_path)]) == 3
    assert capsys.readouterr().err == "segmentation-training: torch is not installed: run make setup-full\n"
    assert not list(tmp_path.iterdir())


def test_training_without_examples_exits_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert command.main(["train", "--folder", str(tmp_path)]) == 3
    assert "make them first" in capsys.readouterr().err


def test_examples_without_speech_exit_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert command.main(["examples", "--folder", str(tmp_path)]) == 3
    assert "make the speech first" in capsys.readouterr().err


def test_all_runs_every_step_in_order_but_adopt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []
    for name in ("speech", "examples", "train", "evaluate", "adopt"):
        monkeypatch.setattr(command, name, lambda options, name=name: ran.append(name))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert command.main(["all", "--folder", str(tmp_path)]) == 0
    assert ran == ["speech", "examples", "train", "evaluate"]


def test_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(command.COMMANDS, "speech", interrupted)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert command.main(["speech", "--folder", str(tmp_path)]) == 130
