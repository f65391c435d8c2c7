from __future__ import annotations

import pytest

from pipeline.assemble.account import Account, Stretch
from schemas.records import Rejected, Words

RATE = 8_000

Told = list[tuple[float, str, str]]


def utterance(
    start: float, end: float, *, speech: tuple[float, float] = (-1, -1), rejected: tuple[Rejected, ...] = ()
) -> Words:
    """Return the last record of an utterance; ``speech`` are its bounds at breaks. Seconds."""
    first, last = (round(one * RATE) if one >= 0 else -1 for one in speech)
    return Words(
        utterance=0,
        start_sample=round(start * RATE),
        is_last=True,
        speech_start_sample=first,
        words=(),
        speech_end_sample=last,
        rejected=rejected,
        watermark_sample=round(end * RATE),
        model="m@1",
        policy="alignatt",
    )


def rejected(start: float, end: float) -> Rejected:
    return Rejected(start_sample=round(start * RATE), end_sample=round(end * RATE), reason="repetition")


def told(account: Account) -> Told:
    """Return the ends of the spans that can be written, with what they are."""
    return [(span.end_sample / RATE, span.kind, span.reason) for span in account.settle(None, is_end=False)[1]]


NEW = Account(rate=RATE, accounted=0)
SAID = NEW.close(2 * RATE, 4 * RATE)
NO_WORDS = ("refused", "no_words")
QUIET = ("non_speech", "")
SEGMENT = ("segment", "")


def test_the_margins_of_an_utterance_are_no_speech() -> None:
    assert told(SAID.hear(utterance(1.7, 4.5))) == [(1.7, *QUIET), (2.0, *QUIET), (4.0, *SEGMENT), (4.5, *QUIET)]


def test_at_a_break_what_got_no_word_is_speech() -> None:
    cut = told(SAID.hear(utterance(1.7, 4.5, speech=(-1, 4.4))))
    assert cut == [(1.7, *QUIET), (2.0, *QUIET), (4.0, *SEGMENT), (4.4, *NO_WORDS), (4.5, *QUIET)]
    begun = told(SAID.hear(utterance(1.7, 4.5, speech=(1.8, -1))))
    assert begun == [(1.7, *QUIET), (1.8, *QUIET), (2.0, *NO_WORDS), (4.0, *SEGMENT), (4.5, *QUIET)]
    both = told(SAID.hear(utterance(1.7, 4.5, speech=(1.7, 4.5))))
    assert both == [(1.7, *QUIET), (2.0, *NO_WORDS), (4.0, *SEGMENT), (4.5, *NO_WORDS)]


def test_at_a_break_behind_which_words_begin_at_once_nothing_is_missing() -> None:
    assert told(SAID.hear(utterance(2.0, 4.0, speech=(2.0, 3.9)))) == [(2.0, *QUIET), (4.0, *SEGMENT)]


def test_what_a_guard_refused_at_a_break_keeps_its_reason() -> None:
    guard = ("refused", "repetition")
    words = utterance(1.0, 5.0, speech=(1.0, 5.0), rejected=(rejected(1.2, 1.8), rejected(4.1, 4.8)))
    assert told(SAID.hear(words)) == [
        (1.0, *QUIET),
        (1.2, *NO_WORDS),
        (1.8, *guard),
        (2.0, *QUIET),
        (4.0, *SEGMENT),
        (4.1, *QUIET),
        (4.8, *guard),
        (5.0, *NO_WORDS),
    ]


@pytest.mark.parametrize("kind", ["gap", "paused"])
def test_words_of_an_utterance_whose_end_is_lost_stay_accounted_for(kind: str) -> None:
    account = SAID.close(4 * RATE, 6 * RATE).behind(Stretch(kind, 5 * RATE, 7 * RATE, reason="missing_records"))
    gap = (kind, "missing_records")
    whole = [(2.0, *QUIET), (4.0, *SEGMENT), (5.0, *SEGMENT), (6.0, *SEGMENT), (7.0, *gap)]
    assert told(account) == whole
    rest, _ = account.settle(None, is_end=False)
    rest = rest.close(round(7.6 * RATE), round(7.8 * RATE)).hear(utterance(1.7, 8.0))
    assert told(rest) == [(7.6, *NO_WORDS), (7.8, *SEGMENT), (8.0, *QUIET)]
