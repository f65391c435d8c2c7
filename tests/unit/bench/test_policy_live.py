from __future__ import annotations

from dataclasses import replace

from pipeline.bench.policy.live import ShownWord, latencies
from pipeline.bench.word_ends import TrueWord

BEGAN = 1_700_000_000.0


def shown(text: str, *, at: float, sequence: int = 0, channel: int = 0, start: float = 0.0) -> ShownWord:
    return ShownWord(
        call_id="c",
        channel=channel,
        sequence=sequence,
        text=text,
        start_seconds=start,
        end_seconds=start + 0.2,
        began_at=BEGAN,
        committed_at=BEGAN + at,
    )


def true(text: str, end: float, *, channel: int = 0) -> TrueWord:
    return TrueWord(channel=channel, text=text, start_seconds=end - 0.2, end_seconds=end)


def test_aware_latency_is_from_the_capture_of_the_true_end_to_the_commit() -> None:
    words = [shown("Hello", at=2.0), shown("wrld", at=2.0, start=0.5), shown("yes.", at=9.0, channel=1)]
    truth = [true("hello", 0.5), true("world", 0.75), true("yes", 8.0, channel=1)]
    assert list(latencies(words, truth)) == [1.5, 1.0]


def test_a_record_that_was_written_twice_counts_when_it_was_first_written() -> None:
    first = shown("hello", at=2.0)
    assert list(latencies([first, replace(first, committed_at=BEGAN + 7.0)], [true("hello", 0.5)])) == [1.5]
