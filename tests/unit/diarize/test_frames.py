"""Windows to frames, frames to turns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.diarize.clustering import Assignment
from pipeline.diarize.pending import Pending
from pipeline.diarize.turns import BRIDGE, SHORTEST, Run, extend
from pipeline.diarize.window import clean_of, resampled, runs_of
from tests.property.durable import BOUNDED


def column(*stretches: tuple[int, int], length: int = 100) -> np.ndarray:  # type: ignore[type-arg]
    flags = np.zeros(length, dtype=bool)
    for first, end in stretches:
        flags[first:end] = True
    return flags


def labels(*columns: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.stack([*columns, np.zeros(len(columns[0]), dtype=bool)], axis=1)


def test_clean_frames_are_those_in_which_nobody_else_speaks() -> None:
    active = np.stack([column((0, 60)), column((50, 60))], axis=1)
    clean, is_clean = clean_of(active, 0.4)
    assert is_clean == (True, False)
    assert np.array_equal(clean[:, 0], column((0, 50)))
    assert np.array_equal(clean[:, 1], column((50, 60)))


@pytest.mark.parametrize("count", [100, 293, 589])
def test_scores_of_other_frames_are_interpolated_in_place(count: int) -> None:
    scores = np.zeros((count, 1), dtype=np.float32)
    scores[count // 2 :] = 1.0
    found = resampled(scores, 250)
    assert found.shape == (250, 1)
    assert np.flatnonzero(found[:, 0] >= 0.5)[0] == pytest.approx(125, abs=1)
    assert resampled(np.zeros((count, 0), np.float32), 250).shape == (250, 0)


def test_windows_vote_and_the_trusted_ones_count_more() -> None:
    active = column((0, 100))[:, None]
    pending = Pending(start=0)
    doubtful, sure = Assignment((2,), (0.2,)), Assignment((1,), (1.0,))
    scores = active.astype(np.float32)
    for assignment in (doubtful, doubtful, sure):
        pending = pending.add(scores, active, assignment, end=100, speakers=2)
    rest, found = pending.settle(60)
    assert (rest.start, rest.end) == (60, 100)
    assert found[:, 0].all()
    assert not found[:, 1:].any()


def test_frames_that_no_window_has_heard_are_unknown() -> None:
    _, found = Pending(start=10).up_to(20, 1).settle(20)
    assert found.tolist() == [[False, True]] * 10


def test_overlap_needs_half_of_the_windows() -> None:
    both = np.stack([column((0, 100)), column((40, 60))], axis=1)
    one = np.stack([column((0, 100)), column()], axis=1)
    assignment = Assignment((1, 2), (1.0, 1.0))
    pending = Pending(start=0)
    for active in (both, both, one):
        pending = pending.add(active.astype(np.float32), active, assignment, end=100, speakers=2)
    _, found = pending.settle(100)
    assert np.array_equal(found[:, 1], column((40, 60)))
    assert np.array_equal(found[:, 0], column((0, 100)))


def test_small_holes_are_closed_and_blips_dropped() -> None:
    going, changed = extend(
        (), labels(column((10, 30), (30 + BRIDGE, 60), (80, 80 + SHORTEST - 1))), start=0, is_end=True
    )
    assert changed == (Run(0, 10, 60),)
    assert going == ()


def test_a_run_that_goes_on_keeps_its_start() -> None:
    going, changed = extend((), labels(column((50, 100))), start=0, is_end=False)
    assert changed == going == (Run(0, 50, 100),)
    going, changed = extend(going, labels(column((0, 20))), start=100, is_end=False)
    assert changed == (Run(0, 50, 120),)
    assert going == (), "what is quiet for longer than the bridge does not go on"


@BOUNDED
@given(
    flags=st.lists(st.lists(st.booleans(), min_size=120, max_size=120), min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 119), max_size=4),
)
def test_runs_do_not_depend_on_where_frames_become_final(flags: list[list[bool]], cuts: list[int]) -> None:
    """Apart from blips at a cut, which may be longer than they seem."""
    smooth = np.repeat(np.array(flags, dtype=bool).T, SHORTEST, axis=0)
    table = np.concatenate([smooth, np.zeros((len(smooth), 1), dtype=bool)], axis=1)

    def runs_of(edges: list[int]) -> dict[tuple[int, int], int]:
        going: tuple[Run, ...] = ()
        found: dict[tuple[int, int], int] = {}
        for first, end in pairwise(edges):
            going, changed = extend(going, table[first:end], start=first, is_end=end == edges[-1])
            found |= {(run.speaker, run.start): run.end for run in changed}
        return found

    edges = sorted({0, len(table), *(cut * SHORTEST for cut in cuts)})
    assert runs_of(edges) == runs_of([0, len(table)])


def test_runs_are_the_stretches_of_each_local_speaker_cut_where_all_windows_cut() -> None:
    active = np.stack([column((0, 20), (25, 60)), column((30, 95))], axis=1)
    found, owners = runs_of(active, start=0, bridge=10, longest=40)
    assert owners == (0, 0, 1)
    assert np.array_equal(found.any(axis=1), active.any(axis=1))
    assert [np.flatnonzero(run)[[0, -1]].tolist() for run in found.T] == [[0, 39], [40, 59], [30, 94]]
    later, _ = runs_of(active[10:], start=10, bridge=10, longest=40)
    assert {tuple((np.flatnonzero(run)[[0, -1]] + 10).tolist()) for run in later.T[1:]} == {
        tuple(np.flatnonzero(run)[[0, -1]].tolist()) for run in found.T[1:]
    }
    assert runs_of(np.zeros((100, 2), dtype=bool), start=0, bridge=10, longest=40)[1] == ()
