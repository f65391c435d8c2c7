"""A short run of ``callscribe chaos``: every kind of fault once, two workers a stage. The long ones are for people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.chaos.schedule import KINDS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def test_nothing_is_lost_said_twice_or_changed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "chaos", "--calls", "3", "--minutes", "0.8", "--seed", "5", "--json"]
    environment = os.environ | {
        "CALLSCRIBE_RUNTIME__WORK_FOLDER": str(tmp_path),
        "CALLSCRIBE_KAFKA__SESSION_TIMEOUT_SECONDS": "6",
        "CALLSCRIBE_BROKER__COMPILER": "quick",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert set(verdict["faults"]["by_kind"]) == set(KINDS)
    assert verdict["faults"]["not_carried_out"] == []
    assert verdict["words"]["words"] > 100
    spoilt = ("lost", "twice", "changed", "invented", "gaps", "otherwise")
    assert {verdict["words"][name] for name in spoilt} == {0}
    assert verdict["incomplete_calls"] == verdict["unaccounted_calls"] == []
    assert verdict["worker_restarts"] >= 2
    assert verdict["poison"] == {"written": 1, "ignored": []}
    assert verdict["recovery_seconds"]["broker"]["count"] > 0
    assert all(spread["never_seen"] == 0 for spread in verdict["recovery_seconds"].values())
    assert list((tmp_path / "bench").iterdir()) == []  # a clean run leaves nothing
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(one.info["cmdline"] or ())]
