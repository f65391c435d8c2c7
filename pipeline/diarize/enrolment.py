"""Known voices: who of a call's speakers is an enrolled one. Arrays only; `pipeline.diarize.enrolling` makes the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.diarize.points import Voices, label_of
from pipeline.diarize.window import Floats
from schemas.records import Identity

LEAST_SECONDS = 3.0  # of speech behind a voice that is compared
MARGIN = 0.03  # the next best enrolled voice must be so much less similar


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Enrolled:
    """Enrolled voices: ``names``, their ``roles`` (None: no role), ``embeddings`` float32 [voices, dimensions] of length one.

    A speaker less similar than ``similarity`` (cosine) to all of them is none of them.
    """

    names: tuple[str, ...]
    roles: tuple[str | None, ...]
    embeddings: Floats
    similarity: float


def recognise(voices: Voices, enrolled: Enrolled | None) -> tuple[Identity, ...]:
    """Return who of the speakers is an enrolled voice, most similar first; no voice is two speakers."""
    labels = [label for label in voices.speakers if voices.seconds(label) >= LEAST_SECONDS]
    if enrolled is None or not labels or not enrolled.names:
        return ()
    similarity = np.stack([voices.centroid(label) for label in labels]) @ enrolled.embeddings.T
    found: list[Identity] = []
    taken: set[int] = set()
    settled: set[int] = set()
    for flat in np.argsort(-similarity, axis=None, kind="stable").tolist():
        speaker, voice = divmod(flat, len(enrolled.names))
        if speaker in settled:
            continue
        settled.add(speaker)  # its most similar voice decides
        value = float(similarity[speaker, voice])
        others = np.delete(similarity[speaker], voice)
        is_clear = not len(others) or value - float(others.max()) >= MARGIN
        if value >= enrolled.similarity and is_clear and voice not in taken:
            taken.add(voice)
            name, role = enrolled.names[voice], enrolled.roles[voice]
            found.append(Identity(speaker=label_of(labels[speaker]), similarity=round(value, 4), name=name, role=role))
    return tuple(found)


def changes(before: Sequence[Identity], now: Sequence[Identity]) -> tuple[Identity, ...]:
    """Return what must be said of ``now`` to who knows ``before``: names that are new or others, and names that hold no more."""
    known = {one.speaker: one for one in before}
    named = {one.speaker for one in now}
    said = [one for one in now if one.speaker not in known or known[one.speaker].name != one.name]
    gone = [Identity(speaker=one.speaker, similarity=one.similarity) for one in before if one.speaker not in named]
    return (*said, *gone)
