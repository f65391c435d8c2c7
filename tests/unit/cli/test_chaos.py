"""``callscribe chaos``: its options, its exit codes, what it says of a failed run; the run itself is scripted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from pipeline.chaos import run as running
from pipeline.chaos.run import Outcome, Plan
from pipeline.chaos.schedule import KINDS
from pipeline.chaos.verdict import Counts
from pipeline.cli.chaos import register
from pipeline.core.errors import FailedError, UsageError
from pipeline.runtime.settings import Settings


@pytest.fixture
def chaos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Result, list[Plan]]]:
    monkeypatch.setenv("CALLSCRIBE_RUNTIME__WORK_FOLDER", str(tmp_path))

    def call(*arguments: str, counts: Counts | None = None, stopped: bool = False) -> tuple[Result, list[Plan]]:
        plans = []

        def scripted(settings: Settings, folder: Path, plan: Plan, say: Any) -> Outcome:
            (folder / "logs").mkdir()
            plans.append(plan)
            if stopped:
                sys.exit(143)  # as `stopped_in_order` answers SIGTERM
            return Outcome(plan=plan, folder=folder, counts={"c1": counts or Counts(words=3)})

        monkeypatch.setattr(running, "run", scripted)
        app = typer.Typer()
        app.callback()(lambda: None)
        register(app)
        return CliRunner().invoke(app, ["chaos", *arguments]), plans

    return call


def test_without_options_it_is_the_run_of_the_promise(chaos: Callable[..., tuple[Result, list[Plan]]]) -> None:
    _, plans = chaos()
    assert plans == [Plan(calls=20, seconds=600.0, seed=1, kinds=KINDS, faults=45)]


def test_kinds_are_chosen_and_kept_in_order(chaos: Callable[..., tuple[Result, list[Plan]]]) -> None:
    _, plans = chaos("--faults", "stop, kill,kill", "--minutes", "2", "--calls", "3", "--seed", "9", "--count", "5")
    assert plans == [Plan(calls=3, seconds=120.0, seed=9, kinds=("kill", "stop"), faults=5)]


@pytest.mark.parametrize("text", ["murder", "kill,murder", "", ","])
def test_an_unknown_kind_is_refused(chaos: Callable[..., tuple[Result, list[Plan]]], text: str) -> None:
    done, plans = chaos("--faults", text)
    assert isinstance(done.exception, UsageError)
    assert plans == []


def test_a_clean_run_leaves_nothing_behind(tmp_path: Path, chaos: Callable[..., tuple[Result, list[Plan]]]) -> None:
    done, _ = chaos("--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["verdict"] == "clean"
    assert list((tmp_path / "bench").iterdir()) == []


def test_a_failed_run_keeps_its_logs_and_says_how_to_repeat_it(
    tmp_path: Path, chaos: Callable[..., tuple[Result, list[Plan]]]
) -> None:
    done, _ = chaos("--seed", "5", "--minutes", "2", "--faults", "kill", "--json", counts=Counts(words=3, lost=1))
    assert json.loads(done.stdout)["verdict"] == "failed"
    (kept,) = (tmp_path / "bench").iterdir()
    assert isinstance(done.exception, FailedError)
    assert str(kept) in str(done.exception)
    assert "callscribe chaos --calls 20 --minutes 2 --seed 5 --faults kill --count 9" in str(done.exception)
    assert (kept / "logs").is_dir()


def test_a_run_that_stands_still_and_is_stopped_keeps_its_logs(
    tmp_path: Path, chaos: Callable[..., tuple[Result, list[Plan]]]
) -> None:
    done, _ = chaos(stopped=True)
    (kept,) = (tmp_path / "bench").iterdir()
    assert done.exit_code == 143
    assert (kept / "logs").is_dir()
    assert f"kept: {kept}" in done.stderr.replace("\n", "")


def test_keep_keeps_a_clean_run(tmp_path: Path, chaos: Callable[..., tuple[Result, list[Plan]]]) -> None:
    chaos("--keep")
    assert len(list((tmp_path / "bench").iterdir())) == 1
