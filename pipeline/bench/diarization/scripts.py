"""The kinds of the shipped calls, and what is said in them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.bench.make_calls import digit_string, filled, loose
from pipeline.demo.phrases import AGENT, CUSTOMER

SHORT = (
    *("Yes.", "Okay.", "No.", "Right.", "Good.", "Great.", "Thanks.", "Correct.", "Hello?", "Please.", "Sure."),
    *("Thank you.", "Yes please.", "No thanks.", "Very good.", "I see.", "Of course.", "All right.", "That is right."),
    *("Okay great.", "Yes, okay.", "No problem.", "Really?", "I know.", "One moment."),
)
SHORT_SHARE = 0.2  # of the turns
LOOSE_SHARE = 0.1  # of the other sentences
DIGIT_SHARE = 0.08


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How the calls of a kind are made. Ranges are drawn from evenly.

    ``length_seconds`` are limits, ``drawn_seconds`` is what is aimed at. ``voices`` names those of a call where they matter.
    ``level_difference_db`` is how far one speaker, drawn, lies below ``level_dbfs``; ``silent_share`` of the calls have digital
    silence instead of ``noise_dbfs``. ``event`` stands in the middle, for ``event_seconds``.
    """

    description: str
    count: int = 1
    speakers: int = 2
    length_seconds: tuple[float, float] = (60.0, 180.0)
    drawn_seconds: tuple[float, float] = (95.0, 110.0)
    voices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_overlapping: bool = False
    gap_seconds: tuple[float, float] = (0.1, 1.2)
    level_dbfs: tuple[float, float] = (-27.0, -23.0)
    level_difference_db: tuple[float, float] = (0.0, 6.0)
    noise_dbfs: tuple[float, float] = (-78.0, -52.0)
    silent_share: float = 0.15
    event: Literal["hold", "music", None] = None
    event_seconds: float = 0.0
    is_mulaw: bool = False


STYLES: Mapping[str, Style] = {
    "two": Style(
        description="Two speakers, a tenth of the speech overlaps.",
        count=10,
        length_seconds=(180.0, 210.0),
        drawn_seconds=(181.0, 193.0),
        is_overlapping=True,
    ),
    "three": Style(description="Three speakers.", speakers=3, drawn_seconds=(140.0, 155.0), is_overlapping=True),
    "one": Style(
        description="One speaker, the other side is not heard.",
        speakers=1,
        drawn_seconds=(80.0, 95.0),
        gap_seconds=(0.6, 3.5),
    ),
    "hold": Style(
        description="Two speakers, a hold in the middle: digital silence, then comfort noise.",
        event="hold",
        event_seconds=14.0,
    ),
    "music": Style(
        description="Two speakers, hold music in the middle.",
        event="music",
        event_seconds=20.0,
        drawn_seconds=(110.0, 125.0),
    ),
    "same": Style(
        description="Two speakers whose voices are alike.",
        count=2,
        voices={"same-01": ("rms", "awb"), "same-02": ("slt", "en-us+f2")},
        is_overlapping=True,
        drawn_seconds=(120.0, 135.0),
    ),
    "mulaw": Style(
        description="Two speakers, G.711 mu-law.", is_mulaw=True, drawn_seconds=(61.0, 66.0), noise_dbfs=(-70.0, -60.0)
    ),
}


def named(name: str) -> str:
    """Return the kind of a call: its name without the number."""
    return name.rpartition("-")[0]


def sentences(speaker: int, source: random.Random) -> Iterator[str]:
    """Yield what a speaker may say; the first speaker talks like an agent. ``|`` is a pause."""
    templates = AGENT if speaker == 0 else CUSTOMER
    deck: list[str] = []
    while True:
        draw = source.random()
        if draw < LOOSE_SHARE:
            yield loose(source)
        elif draw < LOOSE_SHARE + DIGIT_SHARE:
            yield digit_string(source, 3, 8).capitalize() + "."
        else:
            deck = deck or source.sample(templates, len(templates))
            yield filled(deck.pop(), source)
