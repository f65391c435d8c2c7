"""Logic can be imported without Kafka, Faust or a model library; files stay short enough to be read in one go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKED = (
    "torch",
    "faust",
    "mode",
    "confluent_kafka",
    "aiokafka",
    "ctranslate2",
    "faster_whisper",
    "onnxruntime",
    "av",
    "soxr",
)
LIMIT = 400
GENERATED = {ROOT / "schemas" / "records.py"}

# Imports every module named on its command line, with the libraries of BLOCKED out of reach.
PROGRAM = """
import importlib, importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"{name}: {error}")
"""


def modules() -> list[str]:
    """Return every module that must work with arrays alone."""
    paths = [
        *ROOT.glob("pipeline/*/logic.py"),
        *ROOT.glob("pipeline/core/*.py"),
        *ROOT.glob("pipeline/asr/policies/*.py"),
        ROOT / "pipeline/asr/guards.py",
        ROOT / "pipeline/asr/hypothesis.py",
        ROOT / "pipeline/ingest/chunks.py",
        ROOT / "schemas/codec.py",
        ROOT / "topics/__init__.py",
    ]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths)


def run(*names: str) -> subprocess.CompletedProcess[str]:
    """Import ``names`` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(BLOCKED), *names], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_logic_works_without_kafka_and_models() -> None:
    names = modules()
    assert {"pipeline.vad.logic", "pipeline.asr.logic", "pipeline.diarize.logic", "pipeline.assemble.logic"} <= set(
        names
    )
    done = run(*names)
    assert done.returncode == 0, done.stderr


def test_what_is_blocked_is_blocked() -> None:
    assert "is blocked" in run("pipeline.vad.engine").stderr


@pytest.mark.parametrize("folder", ["pipeline", "schemas", "topics", "tests"])
def test_files_are_short(folder: str) -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / folder).rglob("*.py")
        if path not in GENERATED and (count := len(path.read_text(encoding="utf-8").splitlines())) >= LIMIT
    }
    assert not long
