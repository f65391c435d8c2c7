"""One plot as SVG (Scalable Vector Graphics 1.1, W3C): word error rate over word commit latency, a line per way to stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 500
LEFT, TOP, RIGHT, BOTTOM = 70, 54, 300, 58  # margins around the axes
TICKS = 6
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito, 2008
TITLE = "Word error rate over word commit latency"
X_AXIS = "word commit latency, unaware, 95th percentile (s)"
Y_AXIS = "word error rate (%)"
DASHED = 'stroke="#555555" stroke-width="1.5" stroke-dasharray="6 4"'
NOTES = ("beside a point: frame_threshold of alignatt,", "n of local_agreement")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One way to stream: points of a series are joined in the order given, ``label`` stands beside the point."""

    series: str
    label: str
    latency_seconds: float
    word_error_rate: float


@dataclass(frozen=True, slots=True)
class _Axis:
    """A linear scale from values to pixels, with round ticks."""

    low: float
    high: float
    step: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self) -> Iterator[float]:
        return (self.low + index * self.step for index in range(round((self.high - self.low) / self.step) + 1))


def svg(points: Sequence[Point], offline: float) -> str:
    """Return the plot of at least one point and of the word error rate ``offline`` as an SVG document.

    Raises ValueError when there are no points.
    """
    if not points:
        raise ValueError("nothing to plot")
    across = _axis([point.latency_seconds for point in points], LEFT, WIDTH - RIGHT)
    up = _axis([100 * offline, *(100 * point.word_error_rate for point in points)], HEIGHT - BOTTOM, TOP)
    names = list(dict.fromkeys(point.series for point in points))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f"<title>{escape(TITLE)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="30" font-size="17">{escape(TITLE)}</text>',
        *_axes(across, up),
        f'<line x1="{across.begin}" y1="{up.at(100 * offline):.1f}" x2="{across.end}" y2="{up.at(100 * offline):.1f}" {DASHED}/>',
    ]
    for index, name in enumerate(names):
        own = [point for point in points if point.series == name]
        lines += _series(own, across, up, COLOURS[index % len(COLOURS)])
        lines += _legend(name, index, f'stroke="{COLOURS[index % len(COLOURS)]}" stroke-width="3"')
    lines += _legend("offline", len(names), DASHED)
    for row, text in enumerate(NOTES):
        y = TOP + 32 + 22 * (len(names) + 1 + row)
        lines.append(f'<text x="{WIDTH - RIGHT + 24}" y="{y}" font-size="12" fill="#555555">{escape(text)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _axis(values: Sequence[float], begin: float, end: float) -> _Axis:
    """Return a scale with about six round ticks that holds all values."""
    spread = max(max(values) - min(values), 0.1 * max(map(abs, values)), 1e-3)
    size = 10 ** math.floor(math.log10(spread / TICKS))
    step = next(size * factor for factor in (1, 2, 5, 10) if spread / (size * factor) <= TICKS)
    low = math.floor(min(values) / step) * step
    high = max(math.ceil(max(values) / step) * step, low + step)
    return _Axis(low, high, step, begin, end)


def _axes(across: _Axis, up: _Axis) -> Iterator[str]:
    for value in across.ticks():
        x = across.at(value)
        yield f'<line x1="{x:.1f}" y1="{up.end:.1f}" x2="{x:.1f}" y2="{up.begin:.1f}" stroke="#dddddd"/>'
        yield f'<text x="{x:.1f}" y="{up.begin + 20:.1f}" text-anchor="middle">{_number(value, across.step)}</text>'
    for value in up.ticks():
        y = up.at(value)
        yield f'<line x1="{across.begin:.1f}" y1="{y:.1f}" x2="{across.end:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield f'<text x="{across.begin - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{_number(value, up.step)}</text>'
    middle = (across.begin + across.end) / 2
    yield f'<text x="{middle:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{escape(X_AXIS)}</text>'
    middle = (up.begin + up.end) / 2
    yield f'<text transform="translate(20 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(Y_AXIS)}</text>'


def _series(points: Sequence[Point], across: _Axis, up: _Axis, colour: str) -> Iterator[str]:
    places = [(across.at(point.latency_seconds), up.at(100 * point.word_error_rate)) for point in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    for point, (x, y) in zip(points, places, strict=True):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
        yield f'<text x="{x + 6:.1f}" y="{y - 6:.1f}" fill="{colour}" font-size="12">{escape(point.label)}</text>'


def _legend(name: str, index: int, style: str) -> Iterator[str]:
    x, y = WIDTH - RIGHT + 24, TOP + 10 + 22 * index
    yield f'<line x1="{x}" y1="{y}" x2="{x + 24}" y2="{y}" {style}/>'
    yield f'<text x="{x + 32}" y="{y + 4}">{escape(name)}</text>'


def _number(value: float, step: float) -> str:
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
