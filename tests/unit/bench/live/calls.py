"""Recordings and words of known places, for tests of the live benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from pipeline.bench.recordings import Recording, Utterance
from pipeline.bench.word_ends import TrueWord

RATE = 8_000


def recording(
    name: str, folder: Path, *, seconds: float, spoken: dict[int, list[tuple[float, float, str]]], rate: int = RATE
) -> Recording:
    """Write a recording whose samples tell channel and position, and return it with what is said in it."""
    position = np.arange(round(seconds * rate))
    audio = np.stack([(position * 7 + 1000 * channel + 13) % 8000 for channel in spoken], axis=1).astype(np.int16)
    path = folder / f"{name}.wav"
    soundfile.write(path, audio, rate, subtype="ULAW")
    return Recording(
        name=name,
        path=path,
        kind="plain",
        roles={channel: ("agent", "customer")[channel] for channel in spoken},
        references={
            channel: tuple(Utterance(start_seconds=start, end_seconds=end, text=text) for start, end, text in said)
            for channel, said in spoken.items()
        },
    )


def words_of(recorded: Recording) -> tuple[TrueWord, ...]:
    """Return the words of a recording, evenly spread over their utterances."""
    words = []
    for channel, utterances in recorded.references.items():
        for utterance in utterances:
            assert utterance.start_seconds is not None
            assert utterance.end_seconds is not None
            texts = utterance.text.split()
            step = (utterance.end_seconds - utterance.start_seconds) / len(texts)
            words += [
                TrueWord(
                    channel=channel,
                    text=text,
                    start_seconds=utterance.start_seconds + step * index,
                    end_seconds=utterance.start_seconds + step * (index + 1),
                )
                for index, text in enumerate(texts)
            ]
    return tuple(words)
