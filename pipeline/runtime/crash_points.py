"""Named points between two effects, at which a test may have the process killed.

ARCHITECTURE.md, "Crash points", says for each of them what happens next; `tests/integration/test_crash_points.py` kills a worker at
each. Outside of tests `reach` costs a comparison.

A test names a folder in ``CALLSCRIBE_TEST_CRASHES``. A file ``<stage>.<point>`` in it holds a number n: the stage's process that
reaches the point for the nth time from then on removes the file and gets SIGKILL, as from ``kill -9``.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

STAGES = ("vad", "asr", "diarize", "assemble")
POINTS = {
    "received": STAGES,
    "stepped": STAGES,
    "outputs_sent": STAGES,
    "outputs_delivered": STAGES,
    "letter_delivered": STAGES,
    "states_recorded": STAGES,
    "released": STAGES,
    "state_deleted": STAGES,
    "idle_written": ("vad",),
    "rewound": STAGES,
    "stored": ("sink",),
    "letters_delivered": ("sink",),
    "committed": ("sink",),
    "taken": ("ingest",),
    "fed": ("ingest",),
    "left": ("ingest",),
}
VARIABLE = "CALLSCRIBE_TEST_CRASHES"

_folder = Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None
_left: dict[Path, int] = {}


def reach(stage: str, point: str) -> None:
    """Pass the point, or die there when a test has asked for it."""
    if _folder is None:
        return
    path = _folder / f"{stage}.{point}"
    try:
        left = _left.setdefault(path, int(path.read_text(encoding="ascii")))
    except FileNotFoundError:
        _left.pop(path, None)
        return
    if left > 1:
        _left[path] = left - 1
        return
    path.unlink()
    os.kill(os.getpid(), signal.SIGKILL)
