"""How long to train, and how fast."""

from __future__ import annotations

import pytest

from pipeline.core.errors import UsageError
from pipeline.diarize.training.plan import Plan


def test_rate_rises_then_falls_and_never_reaches_zero() -> None:
    plan = Plan(seed=1, steps=1000, learning_rate=1e-3)
    rates = [plan.rate(step, plan.progress(step, 0.0)) for step in range(1001)]
    top = rates.index(max(rates))
    assert 40 < top < 60
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(1e-5)


def test_progress_follows_steps_or_the_clock() -> None:
    assert Plan(seed=1, steps=10).progress(5, 1e9) == 0.5
    assert Plan(seed=1, minutes=2.0).progress(10**9, 30.0) == 0.25
    assert Plan(seed=1, minutes=2.0).progress(0, 500.0) == 1.0


@pytest.mark.parametrize("arguments", [{}, {"steps": 1, "minutes": 1.0}, {"steps": 0}, {"minutes": -1.0}])
def test_a_plan_that_cannot_be_followed_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Plan(seed=1, **arguments)  # type: ignore[arg-type]
