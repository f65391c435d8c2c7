"""Who speaks when as SVG (Scalable Vector Graphics 1.1, W3C): for every recording the reference above the output, on one time axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from pipeline.bench.diarization.figures import RecordingFigures
from pipeline.bench.diarization.recordings import Speech
from pipeline.bench.diarization.spans import seconds_of, within
from pipeline.core.speakers import UNKNOWN

WIDTH, LEFT, RIGHT = 1400, 210, 24
TOP, LANE, GAP, TITLE_HEIGHT = 60, 14, 22, 20
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito, 2008
NOBODY = "#999999"
TITLE = "Who speaks when: reference, and output"
TICK_SECONDS = 30
MOST_TICKS = 20


def svg(figures: Sequence[RecordingFigures]) -> str:
    """Return the timelines of at least one recording as an SVG document.

    A lane per speaker of the reference, then per label of the output, then of diart's own pipeline where it ran. A label has the colour
    of the speaker with whom it shares the most time, ``unknown`` is grey. Raises ValueError when there are no recordings.
    """
    if not figures:
        raise ValueError("nothing to plot")
    longest = max(each.cost.audio_seconds for each in figures)
    scale = (WIDTH - LEFT - RIGHT) / max(longest, 1e-3)
    body: list[str] = []
    y = TOP
    for each in figures:
        block = list(_recording(each, y, scale))
        body += block
        y += TITLE_HEIGHT + LANE * _lanes(each) + GAP
    height = y + 20
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            'font-family="sans-serif" font-size="11">',
            f"<title>{escape(TITLE)}</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            f'<text x="20" y="30" font-size="17">{escape(TITLE)}</text>',
            *_ticks(longest, scale, height),
            *body,
            "</svg>",
            "",
        ]
    )


def _ticks(longest: float, scale: float, height: int) -> Iterator[str]:
    step = TICK_SECONDS
    while longest / step > MOST_TICKS:
        step *= 2
    for second in range(0, int(longest) + 1, step):
        x = LEFT + second * scale
        yield f'<line x1="{x:.1f}" y1="{TOP - 10}" x2="{x:.1f}" y2="{height - 20}" stroke="#dddddd"/>'
        yield f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{second} s</text>'


def _recording(figures: RecordingFigures, y: int, scale: float) -> Iterator[str]:
    rate = figures.accuracy.strict.rate
    title = figures.name if rate is None else f"{figures.name}   DER {100 * rate:.1f} %"
    yield f'<text x="20" y="{y + 12}" font-weight="bold">{escape(title)}</text>'
    y += TITLE_HEIGHT
    colours = {speaker: COLOURS[index % len(COLOURS)] for index, speaker in enumerate(figures.reference)}
    for name, speech in _layers(figures):
        for index, (label, spans) in enumerate(speech.items()):
            if index == 0:
                yield f'<text x="20" y="{y + LANE - 4}" fill="#555555">{escape(name)}</text>'
            yield f'<text x="{LEFT - 8}" y="{y + LANE - 4}" text-anchor="end">{escape(label)}</text>'
            colour = _colour(label, speech, figures.reference, colours)
            for start, end in spans:
                width = max((end - start) * scale, 0.5)
                yield f'<rect x="{LEFT + start * scale:.1f}" y="{y + 2}" width="{width:.1f}" height="{LANE - 4}" fill="{colour}"/>'
            y += LANE


def _layers(figures: RecordingFigures) -> Iterator[tuple[str, Speech]]:
    yield "reference", figures.reference
    yield "output", figures.output
    if figures.baseline is not None:
        yield "diart", figures.baseline.output


def _lanes(figures: RecordingFigures) -> int:
    return sum(len(speech) for _, speech in _layers(figures))


def _colour(label: str, speech: Speech, reference: Speech, colours: dict[str, str]) -> str:
    if speech is reference:
        return colours[label]
    if label == UNKNOWN:
        return NOBODY
    shared = {
        speaker: seconds_of(piece for span in speech[label] for piece in within(spans, span))
        for speaker, spans in reference.items()
    }
    best = max(shared, key=lambda speaker: shared[speaker], default=None)
    return colours[best] if best is not None and shared[best] > 0 else NOBODY
