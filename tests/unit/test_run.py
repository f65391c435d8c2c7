"""The test runner's own promises: all checks run, what fails is named, pytest's closing line ends a good run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import run
from tests.run import Step

GOOD = Step("good", (sys.executable, "-c", "print('quiet')"))
BAD = Step("bad", (sys.executable, "-c", "import sys; print('the reason', file=sys.stderr); sys.exit(3)"))
ABSENT = Step("absent", ("./no-such-program",))


def test_every_check_runs_and_what_failed_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "CHECKS", (BAD, ABSENT, GOOD))
    assert run.main(["--checks-only"]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if line.endswith(" s")][:3] == [
        ["bad", "FAILED"],
        ["absent", "FAILED"],
        ["good", "ok"],
    ]
    assert "the reason" in lines
    assert "quiet" not in lines
    assert lines[-1] == "failed: bad, absent"


def test_the_closing_line_of_pytest_ends_a_good_run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "CHECKS", (GOOD,))
    test = tmp_path / "test_one.py"
    test.write_text("def test_one(): pass\n", encoding="utf-8")
    isolated = ["-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(test)]
    assert run.main(isolated) == 0
    assert "1 passed in" in capfd.readouterr().out.splitlines()[-1]
    test.write_text("def test_one(): assert False\n", encoding="utf-8")
    assert run.main(isolated) == 1
    lines = capfd.readouterr().out.splitlines()
    assert "1 failed in" in lines[-2]
    assert lines[-1] == "failed: pytest"


def test_no_tests_at_all_is_a_failure(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "CHECKS", ())
    assert (
        run.main(["--full", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(tmp_path)]) == 1
    )


def test_the_runner_of_continuous_integration_is_executable() -> None:
    assert os.access(run.ROOT / ".ci" / "run", os.X_OK)
