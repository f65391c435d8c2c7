"""Segments cut into captions that can be read while the audio plays; shared by SubRip and WebVTT.

Limits are the usual ones of captioning guides: two lines of 42 characters, 7 seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.text import joined
from pipeline.sink.transcript import Transcript, TranscriptSegment, TranscriptWord

MAX_CHARACTERS = 84
MAX_SECONDS = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """One caption; times are whole milliseconds and ``end_ms`` is above ``start_ms``."""

    start_ms: int
    end_ms: int
    channel: int
    speaker: str
    text: str


def cues(transcript: Transcript) -> tuple[Cue, ...]:
    """Return the captions of a transcript by (start, channel), as WebVTT requires."""
    names = transcript.names
    found = [
        cue
        for segment in transcript.segments
        for cue in _cues_of(segment, names.get((segment.channel, segment.speaker), segment.speaker))
    ]
    return tuple(sorted(found, key=lambda cue: (cue.start_ms, cue.channel)))


def clock(milliseconds: int, *, point: str) -> str:
    """Return ``hh:mm:ss`` and milliseconds after ``point``.

    >>> clock(3723004, point=",")
    '01:02:03,004'
    """
    rest, thousandths = divmod(milliseconds, 1000)
    minutes, whole = divmod(rest, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{whole:02d}{point}{thousandths:03d}"


def _cues_of(segment: TranscriptSegment, speaker: str) -> Iterator[Cue]:
    if not segment.text.split():
        return
    fits = len(segment.text) <= MAX_CHARACTERS and segment.end_seconds - segment.start_seconds <= MAX_SECONDS
    if fits or not segment.words:
        yield _cue(segment, speaker, segment.start_seconds, segment.end_seconds, segment.text)
        return
    for group in _groups(segment.words):
        yield _cue(segment, speaker, group[0].start_seconds, group[-1].end_seconds, joined(group))


def _groups(words: tuple[TranscriptWord, ...]) -> Iterator[list[TranscriptWord]]:
    group: list[TranscriptWord] = []
    for word in words:
        is_full = group and (
            len(joined([*group, word])) > MAX_CHARACTERS or word.end_seconds - group[0].start_seconds > MAX_SECONDS
        )
        if is_full and not word.is_joined:
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _cue(segment: TranscriptSegment, speaker: str, start_seconds: float, end_seconds: float, text: str) -> Cue:
    start_ms = round(start_seconds * 1000)
    return Cue(
        start_ms=start_ms,
        end_ms=max(round(end_seconds * 1000), start_ms + 1),
        channel=segment.channel,
        speaker=speaker,
        text=" ".join(text.split()),  # a line break or blank line inside would end the cue
    )
