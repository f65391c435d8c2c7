"""The runner behind ``make test``, ``make test-fast`` and ``make check``: every check in order, then pytest.

    tests/run.py                 checks, and the tests that need no broker and no torch
    tests/run.py --full          checks, and every test
    tests/run.py --checks-only   checks alone

A check that fails does not stop the others. pytest runs last and prints for itself, so that its closing line ends the output
of a good run; after anything failed, one more line names it. Exit code 0 when all passed, 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
CODE = ("pipeline", "topics", "schemas", "tests")
FAST = ("-m", "not integration and not diarization")
SIDE_BY_SIDE = ("-n", "logical")  # what needs no broker runs on all cores
SLOW = ("-m", "integration or diarization")


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the run."""

    name: str
    command: tuple[str, ...]


def python(name: str, *arguments: str) -> Step:
    """Return the step that runs a module of this environment."""
    return Step(name, (sys.executable, "-m", *arguments))


CHECKS = (
    python("ruff check", "ruff", "check", "--output-format=concise", *CODE),
    python("ruff format --check", "ruff", "format", "--check", *CODE),
    python("mypy", "mypy"),
    Step("lint-imports", (str(BIN / "lint-imports"),)),
    python("generated records", "schemas.generate", "--check"),
    python("locked requirements", "tests.locks"),
)


def run_check(step: Step) -> bool:
    """Run a check, print its name and duration, and what it said when it failed; return whether it passed."""
    print(f"{step.name:<22}", end="", flush=True)
    started = time.monotonic()
    try:
        done = subprocess.run(
            step.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        is_good, said = done.returncode == 0, done.stdout
    except OSError as error:
        is_good, said = False, f"{step.command[0]}: {error.strerror}\n"
    print(f"{'ok' if is_good else 'FAILED':<7}{time.monotonic() - started:5.1f} s", flush=True)
    if not is_good:
        print(said.rstrip() + "\n", flush=True)
    return is_good


def run_tests(arguments: Sequence[str]) -> bool:
    """Run pytest once, with its output as ours; return whether it passed."""
    command = (sys.executable, "-m", "pytest", *arguments)
    print(f"\npytest {' '.join(arguments)}".rstrip(), flush=True)
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, check=False).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(description="Run every check, then the tests.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--full", action="store_true", help="every test: with a real broker, PostgreSQL, torch")
    which.add_argument("--checks-only", action="store_true", help="no tests")
    options, rest = parser.parse_known_args(arguments)
    if options.checks_only and rest:
        parser.error(f"--checks-only runs no tests to give {' '.join(rest)} to")
    started = time.monotonic()
    failed = [step.name for step in CHECKS if not run_check(step)]
    print(
        f"checks: {len(CHECKS) - len(failed)} of {len(CHECKS)} passed in {time.monotonic() - started:.1f} s", flush=True
    )
    if options.checks_only:
        runs: list[tuple[str, ...]] = []
    elif rest:
        runs = [(*(() if options.full else FAST), *rest)]
    else:
        runs = [(*FAST, *SIDE_BY_SIDE), SLOW] if options.full else [(*FAST, *SIDE_BY_SIDE)]
    failed += ["pytest" for arguments in runs if not run_tests(arguments)]
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
