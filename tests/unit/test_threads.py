"""What importing callscribe settles for the numeric libraries."""

from __future__ import annotations

import os
import subprocess
import sys

NAMES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")


def test_numeric_libraries_use_one_thread_whatever_the_environment_says() -> None:
    """Sums over more threads are rounded otherwise: a replay would not give the probabilities of the workers."""
    script = f"import os, pipeline; print([os.environ[name] for name in {NAMES!r}])"
    shown = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | dict.fromkeys(NAMES, "2"), capture_output=True, check=True
    )
    assert shown.stdout.decode().strip() == "['1', '1']"
