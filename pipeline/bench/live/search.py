"""The largest number of calls that passes: doubling until a run fails, bisection in steps, then full runs."""

from __future__ import annotations

from collections.abc import Callable

Passes = Callable[[int, bool], bool]


def find_largest(passes: Passes, *, first: int, limit: int, step: int) -> int | None:
    """Return the largest number of calls, in multiples of ``step`` from ``first`` on, that passes a full run; None when none does.

    ``passes(calls, is_full)`` makes one run. Short runs bracket the answer; only a full run accepts it. A run that passes in
    short and fails in full moves the answer down by a step. Nothing above ``limit`` is tried.
    """
    good, bad = _bracket(passes, first=min(first, limit), limit=limit, step=step)
    while bad - good > step:
        middle = good + max((bad - good) // 2 // step, 1) * step
        if passes(middle, False):
            good = middle
        else:
            bad = middle
    while good > 0:
        if passes(good, True):
            return good
        good -= step
    return None


def _bracket(passes: Passes, *, first: int, limit: int, step: int) -> tuple[int, int]:
    """Return a number that passes in short (0: none was found) and one that does not, or is above the limit."""
    calls = first
    if passes(calls, False):
        while calls < limit:
            larger = min(2 * calls, limit)
            if not passes(larger, False):
                return calls, larger
            calls = larger
        return limit, limit + step
    bad = calls
    while bad > step:
        calls = max(bad // 2 // step * step, step)
        if passes(calls, False):
            return calls, bad
        bad = calls
    return 0, bad
