"""Silero VAD (the ONNX file inside faster-whisper) on onnxruntime, with the recurrent state carried by the caller.

Model: Silero VAD v6 (Silero Team, 2024); input: windows of 512 samples at 16 kHz behind 64 samples of context.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime

from pipeline.core.errors import NotReadyError
from pipeline.vad.state import VadResult, VadWork

FILE = "silero_vad_v6.onnx"


def model_path() -> Path:
    """Return the path of the ONNX file, without importing faster-whisper. Raises NotReadyError."""
    spec = find_spec("faster_whisper")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "assets" / FILE
        if path.exists():
            return path
    raise NotReadyError(
        f"the Silero VAD model ({FILE}) is not where faster-whisper keeps it: install the locked faster-whisper"
    )


class SileroEngine:
    """Scores windows of speech, each item alone; one thread is enough, and hands items over faster than two."""

    max_batch = 64
    threads = 1

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            str(model_path()), providers=["CPUExecutionProvider"], sess_options=options
        )

    def infer(self, batch: Sequence[VadWork]) -> list[VadResult]:
        """Return the speech probability of every window of every item, and the state behind it."""
        return [self._score(work) for work in batch]

    def _score(self, work: VadWork) -> VadResult:
        hidden = np.frombuffer(work.hidden, dtype=np.float32).reshape(1, 1, 128)
        cell = np.frombuffer(work.cell, dtype=np.float32).reshape(1, 1, 128)
        output, hidden, cell = self._session.run(None, {"input": work.windows, "h": hidden, "c": cell})
        return VadResult([float(p) for p in np.ravel(output)], hidden.tobytes(), cell.tobytes())
