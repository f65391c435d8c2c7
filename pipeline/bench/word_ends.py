"""When each word of a reference is spoken: the ground truth of commit latency.

The span of every reference utterance is known; one teacher-forced alignment of its text within that span gives the times of
its words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.audio import RATE, channels_of
from pipeline.bench.offline import OfflineModel, offline_model
from pipeline.bench.recordings import Recording, Utterance
from pipeline.runtime.settings import AsrSettings

MARGIN_SECONDS = 0.5  # of audio around an utterance that the alignment sees, unless the same channel speaks there


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueWord:
    """A word of a reference, with its punctuation, and when it is spoken, in seconds from the start of the recording."""

    channel: int
    text: str
    start_seconds: float
    end_seconds: float


def true_words(recording: Recording, asr: AsrSettings | None = None) -> tuple[TrueWord, ...]:
    """Return the words of the reference utterances whose span is known, by (channel, order of the reference).

    The default model of ``asr`` (unset: the shipped one) aligns, see `OfflineModel.align`; no word ends behind its utterance.
    An utterance that does not fit into one window (about 29 s) is left out. Empty where the reference tells no times. Raises
    NotReadyError when the model cannot be loaded, InputError when the audio cannot be read.
    """
    if not any(utterance.end_seconds is not None for spoken in recording.references.values() for utterance in spoken):
        return ()
    model = offline_model(asr or AsrSettings())
    channels = channels_of(recording.path)
    return tuple(
        word
        for channel, spoken in sorted(recording.references.items())
        for word in _words(model, channel, channels[channel], spoken)
    )


def _words(
    model: OfflineModel, channel: int, audio: NDArray[np.int16], spoken: Sequence[Utterance]
) -> Iterator[TrueWord]:
    """Yield the words of one channel."""
    timed = [
        (utterance.start_seconds, utterance.end_seconds, utterance.text)
        for utterance in spoken
        if utterance.start_seconds is not None and utterance.end_seconds is not None
    ]
    for index, (start, end, text) in enumerate(timed):
        before = timed[index - 1][1] if index else 0.0
        after = timed[index + 1][0] if index + 1 < len(timed) else len(audio) / RATE
        begin = min(start, max(before, start - MARGIN_SECONDS, 0.0))
        finish = max(end, min(after, end + MARGIN_SECONDS))
        piece = audio[round(begin * RATE) : round(finish * RATE)].astype(np.float32) / 32768.0
        for word in model.align(piece, text):
            yield TrueWord(
                channel=channel,
                text=word.text,
                start_seconds=min(max(begin + word.start_seconds, start), end),
                end_seconds=min(max(begin + word.end_seconds, start), end),
            )
