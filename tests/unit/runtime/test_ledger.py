from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import FatalError
from pipeline.runtime.ledger import Ledger


def filled(count: int, start: int = 0) -> Ledger:
    ledger = Ledger(0)
    for offset in range(start, start + count):
        ledger.add(offset)
    return ledger


def test_the_head_moves_behind_what_is_finished_without_a_hole() -> None:
    ledger = filled(3)
    assert ledger.done(1) is None
    assert ledger.done(2) is None
    assert ledger.done(0) == 3
    assert len(ledger) == 0


def test_the_first_offset_may_be_any() -> None:
    assert filled(1, start=41).done(41) == 42


def test_reading_starts_where_it_was_said() -> None:
    ledger = Ledger(0, 7)
    assert len(ledger) == 0
    with pytest.raises(FatalError, match="offset 8 came where 7 was due"):
        ledger.add(8)


@pytest.mark.parametrize("offset", [0, 1, 3, 4, 100])
def test_a_hole_or_a_repeat_is_fatal(offset: int) -> None:
    ledger = filled(2)
    with pytest.raises(FatalError, match="where 2 was due"):
        ledger.add(offset)


def test_an_offset_that_is_done_twice_or_unknown_is_nothing() -> None:
    ledger = filled(2)
    assert ledger.done(7) is None
    assert ledger.done(0) == 1
    assert ledger.done(0) is None
    assert len(ledger) == 1
    assert Ledger(0).done(0) is None


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(order=st.permutations(range(12)), stop=st.integers(0, 12))
def test_only_what_has_nothing_open_before_it_may_be_committed(order: list[int], stop: int) -> None:
    ledger = filled(12)
    heads = [head for offset in order[:stop] if (head := ledger.done(offset)) is not None]
    done = set(order[:stop])
    head = next((offset for offset in range(12) if offset not in done), 12)
    assert heads == sorted(heads)
    assert (heads[-1] if heads else 0) == head
    assert len(ledger) == 12 - head
