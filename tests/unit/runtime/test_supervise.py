from __future__ import annotations

import pytest

from pipeline.runtime import supervise
from pipeline.runtime.waits import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS


@pytest.mark.parametrize(
    ("early_exits", "seconds"), [(0, 0.0), (1, 0.0), (2, FIRST_RETRY_SECONDS), (3, 1.0), (5_000, LAST_RETRY_SECONDS)]
)
def test_a_worker_that_ends_again_and_again_is_started_for_ever(early_exits: int, seconds: float) -> None:
    assert supervise._delay(early_exits) == seconds
