"""What is counted of one recording, and how recordings add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from pipeline.asr.profiles import ModelProfile
from pipeline.bench.matching import equal_pairs, matched
from pipeline.bench.offline import OfflineModel
from pipeline.bench.policy.streaming import CommittedWord, Streamed, channel_texts, shown_and_changed
from pipeline.bench.recordings import Recording
from pipeline.bench.word_ends import TrueWord
from pipeline.core.text import joined
from pipeline.core.wer import WordErrors, normalise, word_error_rate
from schemas.records import CallSpeech

NO_ERRORS = WordErrors(errors=0, words=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingFigures:
    """One way to stream, over one recording or several.

    ``latencies`` are seconds of audio from the true end of a word to the end of the window whose decoding committed it, and
    ``fed_latencies`` to the end of all audio that had been fed by then, of the words that were heard right. ``shown`` counts
    committed words, ``retracted`` those that the transcript does not hold at that place. ``tail_words`` counts the words of all
    tentative tails, ``erased`` those that were not committed there. ``degraded`` counts the call's degradations by reason, such
    as a guard that refused an utterance.
    """

    errors: WordErrors = NO_ERRORS
    latencies: tuple[float, ...] = ()
    fed_latencies: tuple[float, ...] = ()
    shown: int = 0
    retracted: int = 0
    tail_words: int = 0
    erased: int = 0
    passes: int = 0
    tokens: int = 0
    cpu_seconds: float = 0.0
    degraded: Mapping[str, int] = field(default_factory=dict)
    profile: ModelProfile | None = None

    def __add__(self, other: StreamingFigures) -> StreamingFigures:
        return StreamingFigures(
            errors=self.errors + other.errors,
            latencies=self.latencies + other.latencies,
            fed_latencies=self.fed_latencies + other.fed_latencies,
            shown=self.shown + other.shown,
            retracted=self.retracted + other.retracted,
            tail_words=self.tail_words + other.tail_words,
            erased=self.erased + other.erased,
            passes=self.passes + other.passes,
            tokens=self.tokens + other.tokens,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            degraded=Counter(self.degraded) + Counter(other.degraded),
            profile=self.profile or other.profile,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingFigures:
    """One recording: its true words, as far as the reference tells times, and one entry of ``streaming`` per way to stream."""

    name: str
    kind: str
    audio_seconds: float
    truth: tuple[TrueWord, ...]
    offline: WordErrors
    streaming: tuple[StreamingFigures, ...]


def total(figures: Iterable[StreamingFigures]) -> StreamingFigures:
    """Return the figures of several recordings together."""
    return sum(figures, StreamingFigures())


def offline_errors(recording: Recording, speech: Iterable[CallSpeech], model: OfflineModel) -> WordErrors:
    """Return the errors of the offline transcript: every utterance of call.speech decoded at once, without context."""
    texts: dict[int, list[str]] = {}
    pieces = [record for record in speech if record.speech is not None]
    pieces.sort(key=lambda record: (record.channel, record.sequence))
    for (channel, _), records in groupby(pieces, key=lambda record: (record.channel, _utterance(record))):
        data = b"".join(record.speech.audio for record in records if record.speech is not None)
        audio = np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0
        if len(audio):
            texts.setdefault(channel, []).append(model.decode(audio))
    return text_errors(recording, {channel: " ".join(heard) for channel, heard in texts.items()})


def text_errors(recording: Recording, texts: Mapping[int, str]) -> WordErrors:
    """Return the errors of what was heard, each channel against its own reference."""
    scores = (
        word_error_rate(normalise(recording.text(channel)), normalise(texts.get(channel, "")))
        for channel in recording.references
    )
    return sum(scores, NO_ERRORS)


def streaming_figures(recording: Recording, streamed: Streamed, truth: Sequence[TrueWord]) -> StreamingFigures:
    """Return the figures of one recording that was streamed in one way."""
    shown, retracted = shown_and_changed(
        ((word.channel, word.start_seconds, word.end_seconds, word.text) for word in streamed.words),
        streamed.transcript,
    )
    tail_words, erased = _erasure(streamed)
    right = list(_heard_right(streamed, truth))
    return StreamingFigures(
        errors=text_errors(recording, channel_texts(streamed.transcript)),
        latencies=tuple(word.window_end_seconds - true.end_seconds for word, true in right),
        fed_latencies=tuple(word.fed_seconds - true.end_seconds for word, true in right),
        shown=shown,
        retracted=retracted,
        tail_words=tail_words,
        erased=erased,
        passes=streamed.passes,
        tokens=streamed.tokens,
        cpu_seconds=streamed.cpu_seconds,
        degraded=Counter(one.reason for one in streamed.transcript.degraded),
        profile=streamed.profile,
    )


def _heard_right(streamed: Streamed, truth: Sequence[TrueWord]) -> Iterator[tuple[CommittedWord, TrueWord]]:
    """Yield the committed words that are in the reference, with their true ones."""
    for channel in sorted({word.channel for word in truth}):
        said = [word for word in truth if word.channel == channel]
        heard = [word for word in streamed.words if word.channel == channel]
        for i, j in matched([word.text for word in said], [word.text for word in heard]):
            yield heard[j], said[i]


def _erasure(streamed: Streamed) -> tuple[int, int]:
    """Return the words of all tails, and how many of them are not among the words that were committed in their place."""
    words, erased = 0, 0
    channels = {word.channel for word in streamed.words} | {tail.channel for tail in streamed.tails}
    committed = {channel: [word for word in streamed.words if word.channel == channel] for channel in channels}
    for tail in streamed.tails:
        tentative = normalise(tail.text)
        followed = normalise(joined(committed[tail.channel][tail.committed : tail.committed + len(tentative)]))
        words += len(tentative)
        erased += len(tentative) - len(equal_pairs(tentative, followed[: len(tentative)]))
    return words, erased


def _utterance(record: CallSpeech) -> int:
    return -1 if record.speech is None else record.speech.utterance
