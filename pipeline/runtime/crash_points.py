"""Named points between two effects, at which a test may have the process killed.

ARCHITECTURE.md, "Crash points", says for each of them what happens next; `tests/integration/test_crash_points.py` kills a worker at
each. Outside of tests `reach` costs a comparison.

A test names a folder in ``CALLSCRIBE_TEST_CRASHES``. A file ``<stage>.<point>`` in it says what happens to the stage's process that
reaches the point: ``kill`` (the file is removed, and the process gets SIGKILL, as from ``kill -9``), ``raise`` (the file is removed,
and an error is raised that nobody expects), ``kill at 42``: whenever the record at offset 42 gets there, or ``kill on 0a1b``: whenever
samples get there that hold these bytes.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

STAGES = ("vad", "asr", "diarize", "assemble")
POINTS = {
    "received": STAGES,
    "decoded": (*STAGES, "sink"),
    "inferring": ("vad", "asr"),
    "stepped": STAGES,
    "outputs_sent": STAGES,
    "outputs_delivered": STAGES,
    "letter_delivered": STAGES,
    "states_recorded": STAGES,
    "released": STAGES,
    "state_deleted": STAGES,
    "rewound": STAGES,
    "idle_written": ("vad",),
    "stored": ("sink",),
    "letters_delivered": ("sink",),
    "committed": ("sink",),
    "taken": ("ingest",),
    "fed": ("ingest",),
    "left": ("ingest",),
}
VARIABLE = "CALLSCRIBE_TEST_CRASHES"

_folder = Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None


def reach(stage: str, point: str, offset: int = -1, work: Any = None) -> None:
    """Pass the point with the record at ``offset``, or with ``work`` for an engine, or die there when a test has asked for it."""
    if _folder is None:
        return
    path = _folder / f"{stage}.{point}"
    try:
        what = path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return
    if what[1:2] == ["at"]:
        if what[2] == str(offset):
            os.kill(os.getpid(), signal.SIGKILL)
        return
    if what[1:2] == ["on"]:
        samples = work.windows if hasattr(work, "windows") else work.audio
        if bytes.fromhex(what[2]) in samples.tobytes():
            os.kill(os.getpid(), signal.SIGKILL)
        return
    path.unlink()
    if what[0] == "raise":
        raise RuntimeError("a test asked for this")
    os.kill(os.getpid(), signal.SIGKILL)
