"""How late words were committed, read from the topics after a run.

Aware latency is the broker's timestamp of the record that committed a word minus the capture time of the word's end. The end
is the word's true end in the recording, for words that are where the reference has them; and the end the recogniser gave, for
all words. Of calls with several speakers on a channel, also how long after its commit a word's speaker was final.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import topics
from pipeline.bench.matching import matched
from pipeline.bench.word_ends import TrueWord
from pipeline.runtime.latency import percentile
from pipeline.runtime.read import read_to_end
from pipeline.runtime.settings import Settings
from schemas.codec import Codec
from schemas.records import CallAnnotation, CallSegment, CallSpeech

R = TypeVar("R", CallAnnotation, CallSpeech, CallSegment)

SPEECH_RATE = 16_000  # of the audio in call.speech, whatever its positions count at
SAMPLE_BYTES = 2
APPENDED = 2  # message timestamp type of librdkafka: LogAppendTime


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedWord:
    """A word on call.annotations; ``end_seconds`` counts from the start of the call, ``committed_ms`` is the broker's time."""

    text: str
    end_seconds: float
    committed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The measured span of wall-clock time in ms since the epoch; a word is in it when its end was captured in it."""

    start_ms: float
    end_ms: float

    def holds(self, captured_ms: float) -> bool:
        """Return whether a moment lies in the window."""
        return self.start_ms <= captured_ms < self.end_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Seconds, nearest rank; None where ``count`` is 0."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        """Return the percentiles of ``values``.

        >>> Percentiles.of([0.1, 0.3, 0.2]).p50
        0.2
        """
        p50, p95, p99 = (percentile(values, share) for share in (0.5, 0.95, 0.99))
        return cls(
            count=len(values),
            p50=_rounded(p50),
            p95=_rounded(p95),
            p99=_rounded(p99),
            max=_rounded(max(values, default=None)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped(Generic[R]):
    """A record of a topic and its timestamp in ms; ``is_appended`` tells whether the broker made it, when it appended the record."""

    record: R
    time_ms: int
    is_appended: bool = True


Words = dict[str, dict[int, list[CommittedWord]]]  # by call and channel, in order
Finals = dict[
    str, dict[int, list[tuple[float, int]]]
]  # the same: seconds below which speakers are final, since when in ms


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerLatency:
    """How long after a word was committed its speaker was final; ``never`` counts the words whose speaker was not at the end."""

    after_commit: Percentiles
    never: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the topics hold of a run: all committed words, since when speakers are final, how late the window's records were written.

    ``speech_seconds`` and ``segment_seconds`` count from the capture of a record's last sample to its timestamp.
    """

    words: Words
    finals: Finals
    speech_seconds: tuple[float, ...]
    segment_seconds: tuple[float, ...]
    is_appended: bool


def hear(settings: Settings, starts_ms: Mapping[str, int], window: Window, codec: Codec | None = None) -> Heard:
    """Return what the topics hold of the calls that were captured from ``starts_ms`` on. Raises NotReadyError."""
    codec = codec or Codec()
    annotations = [
        one
        for one in _read(settings, "call.annotations", CallAnnotation, codec)
        if one.record.kind in ("words", "turns", "watermark") and one.record.call_id in starts_ms
    ]
    speech = _read(settings, "call.speech", CallSpeech, codec)
    segments = _read(settings, "call.segments", CallSegment, codec)
    return Heard(
        words=committed_words(annotations),
        finals=final_speakers(annotations),
        speech_seconds=tuple(lateness(speech, starts_ms, window)),
        segment_seconds=tuple(lateness(segments, starts_ms, window)),
        is_appended=all(one.is_appended for one in annotations),
    )


def committed_words(annotations: Iterable[Stamped[CallAnnotation]]) -> Words:
    """Return every committed word at the time it was first committed. A word without a space before it belongs to the last one."""
    found: Words = {}
    seen: set[tuple[str, int, int]] = set()
    for stamped in annotations:
        record = stamped.record
        identity = (record.call_id, record.channel, record.sequence)
        if record.kind != "words" or record.words is None or identity in seen:
            continue
        seen.add(identity)
        words = found.setdefault(record.call_id, {}).setdefault(record.channel, [])
        for word in record.words.words:
            text = words.pop().text + word.text if word.is_joined and words else word.text
            words.append(
                CommittedWord(
                    text=text, end_seconds=word.end_sample / record.sample_rate_hz, committed_ms=stamped.time_ms
                )
            )
    return found


def final_speakers(annotations: Iterable[Stamped[CallAnnotation]]) -> Finals:
    """Return how far and since when the speakers of every channel are final, ascending, by what diarize wrote."""
    found: Finals = {}
    for stamped in annotations:
        record = stamped.record
        if record.stage != "diarize" or record.kind not in ("turns", "watermark"):
            continue
        watermark = record.start_sample if record.turns is None else record.turns.watermark_sample
        finals = found.setdefault(record.call_id, {}).setdefault(record.channel, [])
        end_seconds = watermark / record.sample_rate_hz
        if not finals or end_seconds > finals[-1][0]:
            finals.append((end_seconds, stamped.time_ms))
    return found


def lateness(
    stamped: Iterable[Stamped[CallSpeech]] | Iterable[Stamped[CallSegment]],
    starts_ms: Mapping[str, int],
    window: Window,
) -> Iterator[float]:
    """Yield how long after their last sample was captured the records of the window were first written, in seconds."""
    seen: set[tuple[str, int, int]] = set()
    for one in stamped:
        record = one.record
        end = _end_sample(record)
        identity = (record.call_id, record.channel, record.sequence)
        if end is None or record.call_id not in starts_ms or identity in seen:
            continue
        seen.add(identity)
        captured_ms = starts_ms[record.call_id] + end * 1000 / record.sample_rate_hz
        if window.holds(captured_ms):
            yield (one.time_ms - captured_ms) / 1000


def own_latencies(heard: Heard, starts_ms: Mapping[str, int], window: Window) -> list[float]:
    """Return the latencies of all words by the ends that the recogniser gave, in seconds."""
    return [
        (word.committed_ms - captured_ms) / 1000
        for call_id, channels in heard.words.items()
        for words in channels.values()
        for word in words
        if window.holds(captured_ms := starts_ms[call_id] + word.end_seconds * 1000)
    ]


def speaker_latency(heard: Heard, starts_ms: Mapping[str, int], window: Window) -> SpeakerLatency:
    """Return how long after the commits of the window's words, by their own ends, their speakers were final; 0 where they were."""
    latencies, never = [], 0
    for call_id, channels in heard.words.items():
        for channel, words in channels.items():
            finals = heard.finals.get(call_id, {}).get(channel, [])
            for word in words:
                if not window.holds(starts_ms[call_id] + word.end_seconds * 1000):
                    continue
                at = bisect_left(finals, word.end_seconds, key=lambda final: final[0])
                if at == len(finals):
                    never += 1
                else:
                    latencies.append(max(finals[at][1] - word.committed_ms, 0) / 1000)
    return SpeakerLatency(after_commit=Percentiles.of(latencies), never=never)


def true_latencies(
    heard: Heard, starts_ms: Mapping[str, int], spoken: Mapping[str, Sequence[TrueWord]], window: Window
) -> tuple[list[float], int]:
    """Return the latencies of the words that match ``spoken`` (by call), in seconds, and how many were spoken in the window."""
    latencies, count = [], 0
    for call_id, start_ms in starts_ms.items():
        for channel in {word.channel for word in spoken[call_id]}:
            said = [word for word in spoken[call_id] if word.channel == channel]
            got = heard.words.get(call_id, {}).get(channel, [])
            ends_ms = [start_ms + word.end_seconds * 1000 for word in said]
            count += sum(window.holds(end_ms) for end_ms in ends_ms)
            for i, j in matched([word.text for word in said], [word.text for word in got]):
                if window.holds(ends_ms[i]):
                    latencies.append((got[j].committed_ms - ends_ms[i]) / 1000)
    return latencies, count


def _read(settings: Settings, name: str, kind: type[R], codec: Codec) -> Iterator[Stamped[R]]:
    for message in read_to_end(settings, topics.topic(name).full_name(settings.topics.prefix)):
        made_by, time_ms = message.timestamp()
        yield Stamped(record=codec.decode(message.value(), kind), time_ms=time_ms, is_appended=made_by == APPENDED)


def _end_sample(record: CallSpeech | CallSegment) -> int | None:
    """Return the end of what a record speaks of, None when it is no speech and no segment."""
    if isinstance(record, CallSegment):
        return None if record.segment is None else record.segment.end_sample
    if record.speech is None:
        return None
    return record.start_sample + len(record.speech.audio) // SAMPLE_BYTES * record.sample_rate_hz // SPEECH_RATE


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
