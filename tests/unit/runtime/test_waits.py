from __future__ import annotations

from itertools import islice

import pytest

from pipeline.runtime.waits import LAST_RETRY_SECONDS, doubling


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(0.5, 3.0, [0.5, 1.0, 2.0, 3.0, 3.0]), (4.0, 3.0, [3.0] * 5), (3.0, 3.0, [3.0] * 5)],
)
def test_waits_double_up_to_the_last(first: float, last: float, expected: list[float]) -> None:
    assert list(islice(doubling(first, last), 5)) == expected


def test_the_last_wait_stays_however_long_something_is_away() -> None:
    assert next(islice(doubling(), 10_000, None)) == LAST_RETRY_SECONDS
