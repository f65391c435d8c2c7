"""From recordings of one person to a voice that calls can be compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.contract import Engine
from pipeline.core.errors import FailedError, InputError
from pipeline.diarize.points import unit
from pipeline.diarize.voiceprints import Voiceprint
from pipeline.diarize.window import (
    FRAMES_PER_SECOND,
    RATE,
    DiarizeWork,
    Failure,
    Floats,
    Heard,
    active_of,
    clean_of,
)

LEAST_SECONDS = 5.0  # of speech of one person
WINDOW_LEAST_SECONDS = 1.0  # in a window, before its embedding counts
SPREAD = 0.1  # windows of one person are less similar to their mean than the voice is to other speech of that person


def enrol(
    recordings: Sequence[tuple[str, NDArray[np.int16]]],
    engine: Engine[DiarizeWork, Heard | Failure],
    *,
    window_seconds: float,
    threshold: float,
    similarity: float,
    role: str | None,
) -> Voiceprint:
    """Return the voice of the person who speaks in ``recordings``: (name, int16 samples at 16 kHz).

    ``similarity`` is the cosine below which speech is not taken for an enrolled person's.

    Raises InputError when a recording holds several voices, FailedError when there is too little speech, or the models fail.
    """
    voices: list[tuple[str, Floats, float]] = []
    for name, samples in recordings:
        voices += [(name, voice, seconds) for voice, seconds in _voices(samples, engine, window_seconds, threshold)]
    total = sum(seconds for _, _, seconds in voices)
    if total < LEAST_SECONDS:
        raise FailedError(f"{total:.1f} s of speech of one person were heard; {LEAST_SECONDS:g} s are needed")
    mean = unit(np.sum([voice * np.float32(seconds) for _, voice, seconds in voices], axis=0))
    for name, voice, _ in voices:
        if float(voice @ mean) < similarity - SPREAD:
            raise InputError(name, "more than one voice is heard; enrol from recordings in which one person speaks")
    return Voiceprint(role=role, embedding=mean, seconds=total)


def _voices(
    samples: NDArray[np.int16], engine: Engine[DiarizeWork, Heard | Failure], window_seconds: float, threshold: float
) -> Iterator[tuple[Floats, float]]:
    """Yield the voice of the local speaker who speaks most in each window, and how long it is heard alone."""
    window = round(window_seconds * RATE)
    for start in range(0, max(1, len(samples) - window // 2), window):
        part = samples[start : start + window]
        audio = np.pad(part, (0, window - len(part)))
        (result,) = engine.infer([DiarizeWork(audio=audio, position=start + window)])
        if isinstance(result, Failure):
            raise FailedError(f"the models could not hear a window: {result.reason}")
        clean, is_clean = clean_of(active_of(result.scores, threshold), WINDOW_LEAST_SECONDS)
        lengths = clean.sum(axis=0) / FRAMES_PER_SECOND
        usable = [one for one in range(len(lengths)) if is_clean[one] and np.isfinite(result.embeddings[one]).all()]
        said = {owner: sum(lengths[one] for one in usable if result.owners[one] == owner) for owner in result.owners}
        most = max(said, key=lambda owner: said[owner], default=None)
        own = [one for one in usable if result.owners[one] == most]
        if own:
            yield unit(lengths[own].astype(np.float32) @ result.embeddings[own]), float(lengths[own].sum())
