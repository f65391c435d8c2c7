"""From frames to turns: contiguous speech of one speaker, with its small holes closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.diarize.window import Flags

BRIDGE = 12  # frames: a speaker who is quiet for less than 250 ms goes on
SHORTEST = 5  # frames: what is shorter than 100 ms is no turn


@dataclass(frozen=True, slots=True)
class Run:
    """One speaker from frame ``start`` to ``end``, exclusive; ``speaker`` -1: nobody knows who."""

    speaker: int
    start: int
    end: int


def extend(
    open_runs: Sequence[Run], labels: Flags, *, start: int, is_end: bool
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Return the runs that may go on behind the frames of ``labels``, which begin at frame ``start``, and those that are new or longer.

    ``labels`` bool [frames, speakers + 1], the last column unknown. ``is_end``: nothing goes on. A run that goes on keeps its start.
    """
    count, width = labels.shape
    known = {run.speaker: run for run in open_runs}
    going: list[Run] = []
    changed: list[Run] = []
    for column in range(width):
        speaker = column if column < width - 1 else -1
        last = known.get(speaker)
        for first, end in _stretches(labels[:, column]):
            if last is not None and start + first - last.end <= BRIDGE:
                last = Run(speaker, last.start, start + end)
            elif end - first >= SHORTEST or end == count:
                last = Run(speaker, start + first, start + end)
            else:
                continue
            changed = [run for run in changed if (run.speaker, run.start) != (speaker, last.start)]
            changed.append(last)
        if last is not None and not is_end and start + count - last.end <= BRIDGE:
            going.append(last)
    return tuple(going), tuple(sorted(changed, key=lambda run: (run.start, run.speaker)))


def _stretches(flags: Flags) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
