"""Frames that several windows speak of, until nothing more is said of them.

Every window adds to each of its frames how many speakers it hears, and votes for the speakers of the call. A frame's speakers are
those with the most votes, as many as the windows heard on average: the aggregation of diart and pyannote.audio, with votes weighted
by how much speech stands behind an assignment, since a voice that has just begun is hardly known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.diarize.clustering import Assignment
from pipeline.diarize.window import Flags, Floats

FADING = 0.7  # of earlier votes: later windows have heard more, and know the voices better
NO_VOTES: Floats = np.zeros((0, 0), dtype=np.float32)
NO_SUMS: Floats = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pending:
    """Frames from ``start`` on (frames since the start of the call): ``votes`` float32 [frames, speakers], the sums of what windows
    heard (``heard``, speakers per frame), and how many windows there were, all float32 [frames]."""

    start: int = 0
    votes: Floats = field(default_factory=lambda: NO_VOTES)
    heard: Floats = field(default_factory=lambda: NO_SUMS)
    windows: Floats = field(default_factory=lambda: NO_SUMS)

    @property
    def end(self) -> int:
        """Return the frame behind the last one."""
        return self.start + len(self.heard)

    def add(self, scores: Floats, active: Flags, assignment: Assignment, *, end: int, speakers: int) -> Pending:
        """Return the frames with a window that ends at frame ``end``; ``speakers`` is how many labels were given: label n is
        column n - 1."""
        first = max(self.start, end - len(scores))
        if end <= first:
            return self
        grown = self.up_to(end, speakers)
        rows = slice(first - self.start, end - self.start)
        part = slice(len(scores) - (end - first), None)
        votes, heard, windows = grown.votes.copy(), grown.heard.copy(), grown.windows.copy()
        heard[rows] += active[part].sum(axis=1)
        windows[rows] += 1
        votes[rows] *= FADING
        for local, (label, trust) in enumerate(zip(assignment.labels, assignment.trust, strict=True)):
            if label is not None:
                votes[rows, label - 1] += scores[part, local] * active[part, local] * np.float32(trust)
        return Pending(start=self.start, votes=votes, heard=heard, windows=windows)

    def up_to(self, end: int, speakers: int) -> Pending:
        """Return the frames with those up to ``end``, of which nothing is known yet."""
        more = max(0, end - self.end)
        wider = max(0, speakers - self.votes.shape[1])
        if not more and not wider:
            return self
        return Pending(
            start=self.start,
            votes=np.pad(self.votes, ((0, more), (0, wider))),
            heard=np.pad(self.heard, (0, more)),
            windows=np.pad(self.windows, (0, more)),
        )

    def settle(self, end: int) -> tuple[Pending, Flags]:
        """Return the frames from ``end`` on, and who speaks in those before: bool [frames, speakers + 1], the last column unknown."""
        count = max(0, min(end, self.end) - self.start)
        votes, windows = self.votes[:count], self.windows[:count]
        speakers = self.votes.shape[1]
        wanted = np.rint(self.heard[:count] / np.maximum(windows, 1.0)).astype(int)
        labels = np.zeros((count, speakers + 1), dtype=bool)
        ranked = np.argsort(-votes, axis=1, kind="stable")
        for place in range(min(2, speakers)):  # more than two at once are not told apart
            best = ranked[:, place]
            is_named = (wanted > place) & (votes[np.arange(count), best] > 0)
            labels[np.flatnonzero(is_named), best[is_named]] = True
        is_unheard = windows == 0
        labels[:, speakers] = is_unheard | ((wanted > 0) & ~labels[:, :speakers].any(axis=1))
        rest = Pending(
            start=self.start + count,
            votes=self.votes[count:],
            heard=self.heard[count:],
            windows=self.windows[count:],
        )
        return rest, labels
