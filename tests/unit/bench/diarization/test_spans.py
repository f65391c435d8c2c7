from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.diarization.spans import Span, covered, merged, seconds_of, within, without

spans = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: (float(min(pair)), float(max(pair))))
)


def ticks(found: tuple[Span, ...] | list[Span]) -> set[int]:
    return {tick for start, end in found for tick in range(int(start), int(end))}


def test_spans_within_a_gap_become_one() -> None:
    assert merged([(0.0, 1.0), (1.2, 2.0), (2.5, 3.0)], gap_seconds=0.25) == ((0.0, 2.0), (2.5, 3.0))
    assert merged([(1.0, 1.0)]) == ()


def test_within_cuts_at_both_ends() -> None:
    assert within([(0.0, 2.0), (3.0, 5.0), (6.0, 7.0)], (1.0, 4.0)) == ((1.0, 2.0), (3.0, 4.0))


@given(spans)
def test_merged_spans_cover_the_same(found: list[Span]) -> None:
    assert ticks(merged(found)) == ticks(found)
    assert seconds_of(merged(found)) == len(ticks(found))


@given(st.lists(spans, max_size=4), st.integers(1, 3))
def test_covered_counts_layers(layers: list[list[Span]], at_least: int) -> None:
    expected = {tick for tick in range(30) if sum(tick in ticks(layer) for layer in layers) >= at_least}
    assert ticks(covered(layers, at_least=at_least)) == expected


@given(spans, spans)
def test_without_takes_away(found: list[Span], others: list[Span]) -> None:
    assert ticks(without(found, others)) == ticks(found) - ticks(others)
    assert seconds_of(without(found, others)) == len(ticks(found) - ticks(others))
