"""Local errors: how far who speaks in a window is from who is heard, whichever local speaker is which."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from pipeline.diarize.window import Flags


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalErrors:
    """Frames of speech, counted once for each speaker, and of them those that were missed, were invented or went to another speaker.

    The three add up to the diarization error of the windows.
    """

    missed: int = 0
    false_alarm: int = 0
    confusion: int = 0
    speech: int = 0

    def __add__(self, other: LocalErrors) -> LocalErrors:
        return LocalErrors(
            missed=self.missed + other.missed,
            false_alarm=self.false_alarm + other.false_alarm,
            confusion=self.confusion + other.confusion,
            speech=self.speech + other.speech,
        )

    @property
    def rate(self) -> float:
        """Return all errors as a share of the speech; 0 where there is neither, infinite where there are only errors."""
        return self._share(self.missed + self.false_alarm + self.confusion)

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON writes them; shares of the speech, null where there is none."""
        counts = {"missed": self.missed, "false_alarm": self.false_alarm, "confusion": self.confusion}
        shares = {name: round(count / self.speech, 4) if self.speech else None for name, count in counts.items()}
        return {"error": round(self.rate, 4) if self.speech else None, **shares, "speech_frames": self.speech}

    def __str__(self) -> str:
        parts = (("missed", self.missed), ("false alarm", self.false_alarm), ("confusion", self.confusion))
        return f"error {self.rate:.1%} ({', '.join(f'{name} {self._share(count):.1%}' for name, count in parts)})"

    def _share(self, count: int) -> float:
        return count / self.speech if self.speech else float("inf") if count else 0.0


def beside_changes(said: Flags, frames: int) -> Flags:
    """Return which frames are no nearer than ``frames`` to a place where somebody begins or ends: bool [frames]."""
    away = np.ones(len(said), dtype=np.bool_)
    for change in np.flatnonzero((said[1:] != said[:-1]).any(axis=1)) + 1:
        away[max(0, change - frames) : change + frames] = False
    return away


def local_errors(said: Flags, heard: Flags, *, collar_frames: int = 0) -> LocalErrors:
    """Return the errors of a window: bool [frames, speakers] each, of any number of speakers.

    Frames within ``collar_frames`` of a place where somebody begins or ends are left out: people put the ends of turns differently.
    Missed speech and false alarms do not depend on who is who, so the numbering with the most agreement has the fewest errors.
    """
    if collar_frames:
        counted = beside_changes(said, collar_frames)
        said, heard = said[counted], heard[counted]
    reference, found = said.sum(axis=1), heard.sum(axis=1)
    together = said.T.astype(np.int64) @ heard.astype(np.int64)
    if together.shape[0] > together.shape[1]:
        together = together.T
    rows = np.arange(together.shape[0])
    agreed = max(int(together[rows, list(order)].sum()) for order in permutations(range(together.shape[1]), len(rows)))
    return LocalErrors(
        missed=int(np.maximum(0, reference - found).sum()),
        false_alarm=int(np.maximum(0, found - reference).sum()),
        confusion=int(np.minimum(reference, found).sum()) - agreed,
        speech=int(reference.sum()),
    )
