from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import FatalError
from pipeline.runtime.ledger import Ledger


def filled(count: int, start: int = 0) -> Ledger[str]:
    ledger: Ledger[str] = Ledger(0)
    for offset in range(start, start + count):
        ledger.add(offset, f"m{offset}")
    return ledger


def test_messages_leave_in_order() -> None:
    ledger = filled(3)
    assert list(ledger.done(1)) == []
    assert list(ledger.done(2)) == []
    assert list(ledger.done(0)) == ["m0", "m1", "m2"]
    assert len(ledger) == 0


def test_the_first_offset_may_be_any() -> None:
    assert list(filled(1, start=41).done(41)) == ["m41"]


@pytest.mark.parametrize("offset", [0, 1, 3, 4, 100])
def test_a_hole_or_a_repeat_is_fatal(offset: int) -> None:
    ledger = filled(2)
    with pytest.raises(FatalError, match="where 2 was due"):
        ledger.add(offset, "m")


def test_an_offset_that_is_done_twice_or_unknown_is_nothing() -> None:
    ledger = filled(2)
    assert list(ledger.done(7)) == []
    assert list(ledger.done(0)) == ["m0"]
    assert list(ledger.done(0)) == []
    assert len(ledger) == 1


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(order=st.permutations(range(12)), stop=st.integers(0, 12))
def test_only_what_has_nothing_open_before_it_is_acknowledged(order: list[int], stop: int) -> None:
    ledger = filled(12)
    acknowledged = [message for offset in order[:stop] for message in ledger.done(offset)]
    done = set(order[:stop])
    head = next((offset for offset in range(12) if offset not in done), 12)
    assert acknowledged == [f"m{offset}" for offset in range(head)]
    assert len(ledger) == 12 - head
