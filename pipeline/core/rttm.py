"""RTTM: who speaks when, as lines of text.

NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A. A line has the fields type, file,
channel (from 1), start and duration in seconds, orthography, subtype, speaker, confidence, and since RT-04 the look-ahead time;
``<NA>`` stands for nothing, lines that begin with ``;;`` are comments. Speakers are in lines of the type SPEAKER.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.core.errors import UsageError

SPEAKER = "SPEAKER"
OTHER_TYPES = frozenset(
    "SEGMENT NOSCORE NO_RT_METADATA LEXEME NON-LEX NON-SPEECH FILLER EDIT IP SU CB A/P SPKR-INFO".split()  # noqa: SIM905
)
NOTHING = "<NA>"
FIELDS = (9, 10)  # without and with the look-ahead time


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerTurn:
    """One speaker, contiguous, in a file. ``channel`` counts from 1 as in the format."""

    file: str
    channel: int = 1
    start_seconds: float
    duration_seconds: float
    speaker: str

    @property
    def end_seconds(self) -> float:
        """Return where the turn ends."""
        return self.start_seconds + self.duration_seconds


class RttmError(UsageError):
    """A line that is not RTTM: ``line`` counts from 1, ``reason`` is what is wrong with it."""

    def __init__(self, name: str, line: int, reason: str) -> None:
        super().__init__(f"{name}:{line}: {reason}")
        self.line = line
        self.reason = reason


def read_rttm(text: str, *, name: str = "rttm") -> tuple[SpeakerTurn, ...]:
    """Return the turns of all SPEAKER lines, in the order of the lines. Raises RttmError; ``name`` is what it calls the text.

    Lines of the format's other types, comments and empty lines are left out.
    """
    turns = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or line.lstrip().startswith(";;"):
            continue
        try:
            turn = _turn(fields)
        except ValueError as error:
            raise RttmError(name, number, str(error)) from None
        if turn is not None:
            turns.append(turn)
    return tuple(turns)


def write_rttm(turns: Iterable[SpeakerTurn]) -> str:
    """Return one SPEAKER line per turn, in the order given; times to the millisecond.

    Names hold no spaces: those inside become underscores. An empty one becomes ``unknown``.
    """
    return "".join(
        f"{SPEAKER} {_name(turn.file)} {turn.channel} {turn.start_seconds:.3f} {turn.duration_seconds:.3f} "
        f"{NOTHING} {NOTHING} {_name(turn.speaker)} {NOTHING} {NOTHING}\n"
        for turn in turns
    )


def _turn(fields: list[str]) -> SpeakerTurn | None:
    kind = fields[0]
    if kind in OTHER_TYPES:
        return None
    if kind != SPEAKER:
        raise ValueError(f"{kind[:40]!r} is no type of RTTM")
    if len(fields) not in FIELDS:
        raise ValueError(f"has {len(fields)} fields; a {SPEAKER} line has {FIELDS[0]} or {FIELDS[1]}")
    speaker = fields[7]
    if speaker == NOTHING:
        raise ValueError("names no speaker (field 8)")
    return SpeakerTurn(
        file=fields[1],
        channel=_channel(fields[2]),
        start_seconds=_seconds(fields[3], "start (field 4)"),
        duration_seconds=_seconds(fields[4], "duration (field 5)"),
        speaker=speaker,
    )


def _channel(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"the channel (field 3) is {text[:40]!r}, not a whole number")
    return int(text)


def _seconds(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"the {what} is {text[:40]!r}, not a number of seconds") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"the {what} is {text[:40]!r}, not a time from 0 on")
    return value


def _name(text: str) -> str:
    return "_".join(text.split()) or "unknown"
