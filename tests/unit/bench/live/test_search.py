from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.live.search import find_largest


class Machine:
    """Passes short runs up to ``short`` calls and full ones up to ``full``."""

    def __init__(self, short: int, full: int) -> None:
        self.short, self.full = short, full
        self.runs: list[tuple[int, bool]] = []

    def passes(self, calls: int, is_full: bool) -> bool:
        self.runs.append((calls, is_full))
        return calls <= (self.full if is_full else self.short)


def test_doubling_then_bisection_then_a_full_run() -> None:
    machine = Machine(short=70, full=70)
    assert find_largest(machine.passes, first=16, limit=256, step=4) == 68
    assert machine.runs == [
        (16, False),
        (32, False),
        (64, False),
        (128, False),
        (96, False),
        (80, False),
        (72, False),
        (68, False),
        (68, True),
    ]


def test_a_full_run_that_fails_moves_the_answer_down() -> None:
    machine = Machine(short=70, full=62)
    assert find_largest(machine.passes, first=64, limit=128, step=4) == 60
    assert machine.runs[-3:] == [(68, True), (64, True), (60, True)]


def test_nothing_passes() -> None:
    machine = Machine(short=3, full=3)
    assert find_largest(machine.passes, first=16, limit=128, step=4) is None
    assert machine.runs == [(16, False), (8, False), (4, False)]


def test_the_limit_is_the_answer_when_it_passes() -> None:
    machine = Machine(short=999, full=999)
    assert find_largest(machine.passes, first=16, limit=100, step=4) == 100
    assert max(machine.runs) == (100, True)


@given(st.integers(0, 300), st.integers(0, 40), st.integers(1, 100), st.integers(1, 300), st.sampled_from([1, 2, 4, 8]))
def test_the_answer_is_within_a_step_of_the_truth(short: int, less: int, first: int, limit: int, step: int) -> None:
    machine = Machine(short=short, full=max(short - less, 0))
    found = find_largest(machine.passes, first=first, limit=limit, step=step)
    assert all(1 <= calls <= limit for calls, _ in machine.runs)
    assert len(set(machine.runs)) == len(machine.runs)
    most = min(machine.full, limit)
    if found is None:
        assert most < max(step, min(first, limit)) + step
    else:
        assert machine.runs[-1] == (found, True)
        assert most - step < found <= most


def test_the_first_number_is_at_most_the_limit() -> None:
    machine = Machine(short=5, full=5)
    assert find_largest(machine.passes, first=50, limit=4, step=4) == 4
    assert machine.runs == [(4, False), (4, True)]


@pytest.mark.parametrize("short", [2, 3])
def test_a_first_number_below_the_step(short: int) -> None:
    machine = Machine(short=short, full=short)
    assert find_largest(machine.passes, first=2, limit=64, step=4) == 2
