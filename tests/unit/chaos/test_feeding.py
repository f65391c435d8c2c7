"""A feed that begins again catches up with its call, and goes on in real time from there."""

from __future__ import annotations

import pytest

from pipeline.ingest.pacing import FeedStopped, Pace


class Clock:
    """A clock that goes on when somebody waits."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.waits: list[float] = []
        self.is_stopped = False

    def wait_stopped(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return self.is_stopped


def test_what_was_due_before_a_feed_began_again_comes_at_once_and_the_rest_in_real_time() -> None:
    clock = Clock(now=104.0)
    pace = Pace(speed="real", monotonic=lambda: clock.now, wait_stopped=clock.wait_stopped, origin=100.0)
    for position in (0.5, 2.0, 4.0, 4.5, 6.0):
        pace.wait(position)
    assert clock.waits == [0.0, 0.0, 0.0, 0.5, 1.5]


def test_a_new_feed_counts_from_its_first_record() -> None:
    clock = Clock(now=104.0)
    pace = Pace(speed="real", monotonic=lambda: clock.now, wait_stopped=clock.wait_stopped)
    for position in (0.0, 0.5, 1.5):
        pace.wait(position)
    assert clock.waits == [0.0, 0.5, 1.0]
    clock.is_stopped = True
    with pytest.raises(FeedStopped):
        pace.wait(2.0)
