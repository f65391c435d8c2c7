"""A record that kills is found, however many others there are beside it; one that does not is never condemned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.attempts import AGAIN, CAREFUL_AFTER, CAREFUL_RECORDS, MAX_CONDEMNED, Attempts, Start

METADATA_BYTES = 4096  # offset.metadata.max.bytes of Kafka


@given(
    st.builds(
        Attempts,
        starts=st.integers(0, 1000),
        in_hand=st.none() | st.integers(0, 2**62),
        culprit=st.none() | st.integers(0, 2**62),
        deaths=st.integers(0, 99),
        condemned=st.lists(st.integers(0, 2**62), max_size=MAX_CONDEMNED).map(tuple),
        unread=st.lists(st.integers(0, 2**62), max_size=MAX_CONDEMNED).map(tuple),
    )
)
def test_the_metadata_says_everything_and_fits(attempts: Attempts) -> None:
    assert Attempts.parse(attempts.to_text()) == attempts
    assert Attempts.parse(attempts.to_text() + "\0") == attempts
    assert len(attempts.to_text()) < METADATA_BYTES


@pytest.mark.parametrize(
    "text",
    [None, "", "somebody else's", "[]", "3", '{"starts": "x"}', '{"starts": -1}', '{"other": 1}', '{"condemned": 7}'],
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


def test_a_condemned_record_that_ends_the_process_even_so_is_not_decoded_any_more() -> None:
    attempts = Attempts(in_hand=4, culprit=4, deaths=2).started(3)
    assert (attempts.condemned, attempts.unread) == ((4,), ())
    again = replace(attempts, in_hand=4).started(3)
    assert (again.condemned, again.unread) == ((4,), ())  # a death may be no fault of the record
    for _ in range(AGAIN):
        again = replace(again, in_hand=4).started(3)
    assert (again.condemned, again.unread) == ((4,), (4,))
    other = replace(again, in_hand=5).started(3)
    assert (other.condemned, other.unread, other.culprit, other.deaths) == ((4,), (4,), 5, 1)


def test_a_start_that_found_nothing_in_hand_blames_nobody() -> None:
    attempts = Attempts(starts=9, culprit=3, deaths=2).started(3)
    assert (attempts.starts, attempts.culprit, attempts.deaths, attempts.condemned) == (10, 3, 2, ())


def test_another_record_is_counted_anew() -> None:
    attempts = Attempts(in_hand=4, culprit=3, deaths=2).started(3)
    assert (attempts.culprit, attempts.deaths) == (4, 1)


BACKLOG = 1_000_000


def start(offset: int, text: str, limit: int = 3) -> Start:
    return Start(offset=offset, first=0, end=BACKLOG, attempts=Attempts.parse(text).started(limit))


def test_care_is_for_the_next_records_and_for_more_after_every_start_that_came_to_nothing() -> None:
    spans, text = [], ""
    for _ in range(5):
        found = start(7, text)
        spans.append(found.careful_end - 7)
        text = found.metadata(7)
    assert spans == [0, *(CAREFUL_RECORDS * 2**starts for starts in (2, 3, 4, 5))]
    assert [found.is_careful(offset) for offset in (6, 7, found.careful_end - 1, found.careful_end)] == [0, 1, 1, 0]
    assert Start(offset=7, first=0, end=9, attempts=Attempts(starts=2)).careful_end == 9
    assert Start(offset=7, first=0, end=BACKLOG, attempts=Attempts(starts=2**62)).careful_end == BACKLOG


def test_the_death_of_a_record_in_hand_makes_no_other_one_suspicious() -> None:
    found = start(7, Attempts(starts=2, in_hand=9).to_text())
    assert found.careful_end == 7 + 4 * CAREFUL_RECORDS


@pytest.mark.parametrize("far", [0, 5, 3_000, 30_000])
def test_a_killer_is_found_however_far_behind_a_head_that_stands_still(far: int) -> None:
    deaths, found = 0, start(0, "")
    while not found.is_condemned(far):
        found.in_hand = far if found.is_careful(far) else None
        deaths, found = deaths + 1, start(0, found.metadata(0))
        assert deaths <= CAREFUL_AFTER + 3 + 6
    assert found.attempts.condemned == (far,)


def test_progress_behind_the_careful_records_takes_away_all_but_what_is_condemned() -> None:
    found = start(5, Attempts(starts=1, culprit=8, deaths=2, condemned=(4, 6, 5_000)).to_text())
    end = found.careful_end
    found.in_hand = 9
    assert Attempts.parse(found.metadata(5)) == Attempts(starts=2, in_hand=9, culprit=8, deaths=2, condemned=(6, 5_000))
    assert Attempts.parse(found.metadata(10)) == Attempts(starts=2, culprit=8, deaths=2, condemned=(5_000,))
    assert Attempts.parse(found.metadata(end)) == Attempts(condemned=(5_000,))
    assert found.metadata(5_001) == ""
    assert Attempts.parse(found.rewound(0)) == Attempts(condemned=(4, 6, 5_000))


def test_what_is_condemned_outlives_the_progress_of_a_start_without_care() -> None:
    found = start(5, Attempts(condemned=(8,)).to_text())
    assert [Attempts.parse(found.metadata(offset)).condemned for offset in (5, 6, 8, 9)] == [(8,), (8,), (8,), ()]
    assert found.metadata(9) == ""


def test_an_end_in_good_order_takes_the_start_back_and_forgets_no_death() -> None:
    found = start(5, Attempts(starts=2, in_hand=6, culprit=6, deaths=1, condemned=(8,)).to_text())
    found.in_hand, found.is_over = 6, True
    again = start(5, found.metadata(5))
    assert again.attempts == Attempts(starts=2, culprit=6, deaths=2, condemned=(8,))


KNOWN = Attempts(starts=1, culprit=8, deaths=2, condemned=(4, 8))
COUNTED = Attempts(starts=2, culprit=8, deaths=2, condemned=(4, 8))
NEW = Attempts(starts=1)


@pytest.mark.parametrize(
    ("committed", "first", "end", "offset", "attempts"),
    [
        (5, 0, 9, 5, COUNTED),
        (5, 5, 9, 5, COUNTED),
        (5, 6, 9, 6, Attempts(condemned=(8,))),  # what the starts were counted at was deleted
        (5, 9, 9, 9, Attempts()),
        (5, 0, 5, 5, Attempts()),  # there was nothing to fail at
        (5, 0, 4, 0, NEW),  # of a log that was deleted
        (5, 2, 4, 2, NEW),
        (5, 0, 0, 0, Attempts()),
        (None, 0, 9, 0, NEW),
        (None, 7, 9, 7, NEW),
        (None, 0, 0, 0, Attempts()),
    ],
)
def test_reading_starts_where_it_was_committed_if_that_is_there(
    committed: int | None, first: int, end: int, offset: int, attempts: Attempts
) -> None:
    found = Start.from_commit(committed, KNOWN.to_text(), first=first, end=end, max_deaths=3)
    assert found == Start(offset=offset, first=first, end=end, attempts=attempts)


@pytest.mark.parametrize("metadata", [None, "", "somebody else's"])
def test_a_commit_that_remembers_nothing_is_of_a_first_start(metadata: str | None) -> None:
    assert Start.from_commit(5, metadata, first=0, end=9, max_deaths=3).attempts == NEW


def test_a_start_that_could_not_be_taken_back_is_no_death_of_the_process_that_made_it() -> None:
    last = Start.from_commit(5, None, first=0, end=9, max_deaths=3)
    text = last.metadata(5)
    again = Start.from_commit(5, text, first=0, end=9, max_deaths=3, last=last)
    assert again.attempts == NEW
    died = Start.from_commit(5, again.metadata(5), first=0, end=9, max_deaths=3)  # another process finds it
    assert died.attempts == Attempts(starts=2)
    assert Start.from_commit(5, died.metadata(5), first=0, end=9, max_deaths=3, last=last).attempts.starts == 3
    assert Start.from_commit(None, None, first=0, end=9, max_deaths=3, last=last).attempts == NEW


@given(deaths=st.integers(0, 4), hand_overs=st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_deaths_are_counted_and_hand_overs_are_not(deaths: int, hand_overs: list[int]) -> None:
    text = ""
    for number in range(deaths + 1):
        for _ in range(hand_overs[number]):
            found = start(5, text)
            found.is_over = True
            text = found.metadata(5)
        found = start(5, text)
        text = found.metadata(5)
    assert found.attempts.starts == deaths + 1
