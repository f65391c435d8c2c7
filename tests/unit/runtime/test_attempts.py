"""A record that kills is found, however many others there are beside it; one that does not is never condemned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.attempts import CAREFUL_AFTER, MAX_CONDEMNED, Attempts

METADATA_BYTES = 4096  # offset.metadata.max.bytes of Kafka


@given(
    st.builds(
        Attempts,
        starts=st.integers(0, 1000),
        in_hand=st.none() | st.integers(0, 2**62),
        culprit=st.none() | st.integers(0, 2**62),
        deaths=st.integers(0, 99),
        condemned=st.lists(st.integers(0, 2**62), max_size=MAX_CONDEMNED).map(tuple),
    )
)
def test_the_metadata_says_everything_and_fits(attempts: Attempts) -> None:
    assert Attempts.parse(attempts.to_text()) == attempts
    assert len(attempts.to_text()) < METADATA_BYTES


@pytest.mark.parametrize(
    "text", [None, "", "somebody else's", "[]", "3", '{"starts": "x"}', '{"other": 1}', '{"condemned": 7}']
)
def test_what_somebody_else_wrote_says_nothing(text: str | None) -> None:
    assert Attempts.parse(text) == Attempts()


def starts(killers: set[int], records: int, limit: int, most: int) -> tuple[int, Attempts]:
    """Start a process again and again, from the same offset, until it gets through ``records``; return how often, and what is known."""
    text = ""
    for number in range(1, most + 1):
        attempts = Attempts.parse(text).started(limit)
        text = attempts.to_text()
        for record in range(records):
            if record in attempts.condemned:
                continue
            if attempts.is_careful:
                text = Attempts(
                    starts=attempts.starts,
                    in_hand=record,
                    culprit=attempts.culprit,
                    deaths=attempts.deaths,
                    condemned=attempts.condemned,
                ).to_text()
            if record in killers:
                break
        else:
            return number, attempts
    raise AssertionError("it never gets through")


@given(killers=st.sets(st.integers(0, 9), max_size=4), limit=st.integers(1, 4))
def test_every_killer_is_condemned_and_nothing_else(killers: set[int], limit: int) -> None:
    number, attempts = starts(killers, 10, limit, 100)
    assert set(attempts.condemned) == killers
    assert number <= CAREFUL_AFTER + limit * len(killers)


def test_a_start_that_found_nothing_in_hand_blames_nobody() -> None:
    attempts = Attempts(starts=9, culprit=3, deaths=2).started(3)
    assert (attempts.starts, attempts.culprit, attempts.deaths, attempts.condemned) == (10, 3, 2, ())


def test_another_record_is_counted_anew() -> None:
    attempts = Attempts(in_hand=4, culprit=3, deaths=2).started(3)
    assert (attempts.culprit, attempts.deaths) == (4, 1)
