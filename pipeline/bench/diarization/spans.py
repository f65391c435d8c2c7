"""Spans of time, ``(start, end)`` in seconds: the arithmetic of who speaks when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Span = tuple[float, float]


def merged(spans: Iterable[Span], *, gap_seconds: float = 0.0) -> tuple[Span, ...]:
    """Return spans in order, without overlap; those at most ``gap_seconds`` apart become one, empty ones vanish.

    >>> merged([(2.0, 3.0), (0.0, 1.0), (1.0, 1.5)])
    ((0.0, 1.5), (2.0, 3.0))
    """
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if found and start - found[-1][1] <= gap_seconds:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return tuple(found)


def covered(layers: Sequence[Iterable[Span]], *, at_least: int) -> tuple[Span, ...]:
    """Return where at least so many layers have a span. Spans of one layer count once.

    >>> covered([[(0.0, 2.0)], [(1.0, 3.0)]], at_least=2)
    ((1.0, 2.0),)
    """
    edges = sorted(edge for layer in layers for start, end in merged(layer) for edge in ((start, 1), (end, -1)))
    found: list[Span] = []
    count, begun = 0, 0.0
    for at, change in edges:
        if count < at_least <= count + change:
            begun = at
        elif count >= at_least > count + change:
            found.append((begun, at))
        count += change
    return merged(found)


def within(spans: Iterable[Span], span: Span) -> tuple[Span, ...]:
    """Return the parts of spans that lie in another one."""
    return tuple(
        (max(start, span[0]), min(end, span[1])) for start, end in spans if min(end, span[1]) > max(start, span[0])
    )


def without(spans: Iterable[Span], others: Iterable[Span]) -> tuple[Span, ...]:
    """Return the parts of spans that lie in none of the others.

    >>> without([(0.0, 4.0)], [(1.0, 2.0)])
    ((0.0, 1.0), (2.0, 4.0))
    """
    found: list[Span] = []
    holes = merged(others)
    for start, end in merged(spans):
        for low, high in holes:
            if low < end and high > start:
                if low > start:
                    found.append((start, low))
                start = max(start, high)
        if start < end:
            found.append((start, end))
    return tuple(found)


def seconds_of(spans: Iterable[Span]) -> float:
    """Return the summed length of spans."""
    return sum(end - start for start, end in spans)
