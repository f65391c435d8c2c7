"""A recording through the stages in this process, with a note of where each decoded window ended.

The same logic, engines and `CallFlow` as in the workers, record by record. Only the recogniser is watched: which words came out
of which window, how many passes and tokens it took, how much processor time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline import stages
from pipeline.asr.hypothesis import AsrWork, Hypothesis
from pipeline.asr.profiles import ModelProfile
from pipeline.asr.state import RATE, AsrState
from pipeline.bench.recordings import Recording
from pipeline.bench.stage_run import run_of
from pipeline.core.contract import Engine, Lane, LaneLogic, Snapshot, Step
from pipeline.ingest.chunks import SAMPLE_BYTES
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import FeedOptions, records
from pipeline.runtime.settings import Settings
from pipeline.sink.transcript import Transcript
from schemas.records import CallAnnotation, CallAudio, CallSegment, CallSpeech


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedWord:
    """A committed word as readers of call.annotations see it; times in seconds from the start of the call.

    ``window_end_seconds`` is the end of the audio whose decoding committed it, ``fed_seconds`` the end of all audio that had
    been fed by then.
    """

    channel: int
    text: str
    is_joined: bool
    start_seconds: float
    end_seconds: float
    window_end_seconds: float
    fed_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FedSpeech:
    """A record of call.speech, and the end of all audio that had been fed when it was written."""

    record: CallSpeech
    fed_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tentative:
    """A tentative tail, and how many words of its channel were committed when it was shown."""

    channel: int
    text: str
    committed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What came of one recording. ``cpu_seconds`` are those of the recogniser's engine, on all threads of the process."""

    transcript: Transcript
    words: tuple[CommittedWord, ...]
    tails: tuple[Tentative, ...]
    profile: ModelProfile | None
    passes: int
    tokens: int
    cpu_seconds: float


def speech_of(recording: Recording, settings: Settings, engine: Engine[Any, Any]) -> tuple[FedSpeech, ...]:
    """Return call.speech for a recording; ``engine`` is that of the vad stage. Raises InputError."""
    options = FeedOptions(roles=recording.roles, record_seconds=settings.ingest.record_seconds)
    vad = run_of("vad", stages.spec("vad").make_logic(settings), engine, recording.name)
    fed_seconds, made = 0.0, []
    with open_audio(recording.path, name=recording.name) as source:
        for record in records(source, options, call_id=recording.name, capture_start_ms=0):
            fed_seconds = max(fed_seconds, _end_seconds(record))
            made += [FedSpeech(record=output, fed_seconds=fed_seconds) for output in vad.feed(record)]
    return tuple(made)


def stream(speech: Sequence[FedSpeech], settings: Settings, engine: Engine[AsrWork, Hypothesis]) -> Streamed:
    """Return what the asr stage and the stages behind it make of a call's speech; ``engine`` is that of the asr stage."""
    watched = _Watched(stages.spec("asr").make_logic(settings))
    metered = _Metered(engine)
    call_id = speech[0].record.call_id
    asr = run_of("asr", watched, metered, call_id)
    diarize, assemble = (
        run_of(stage, stages.spec(stage).make_logic(settings), stages.spec(stage).make_engine(settings), call_id)
        for stage in ("diarize", "assemble")
    )
    words: list[CommittedWord] = []
    tails: list[Tentative] = []
    segments: list[CallSegment] = []
    for fed in speech:
        annotations = asr.feed(fed.record)
        for annotation in annotations:
            if annotation.kind == "tail":
                before = sum(word.channel == annotation.channel for word in words)
                tails.append(Tentative(channel=annotation.channel, text=annotation.tail.text, committed=before))
            elif annotation.kind == "words":
                words += _committed(annotation, watched.ends.pop(0), fed.fed_seconds)
        for annotation in (*annotations, *diarize.feed(fed.record)):
            segments += assemble.feed(annotation)
    return Streamed(
        transcript=Transcript.from_records(segments),
        words=tuple(words),
        tails=tuple(tails),
        profile=watched.profile,
        passes=metered.passes,
        tokens=metered.tokens,
        cpu_seconds=metered.cpu_seconds,
    )


def _end_seconds(record: CallAudio) -> float:
    samples = 0 if record.audio is None else len(record.audio.data) // SAMPLE_BYTES[record.audio.encoding]
    return (record.start_sample + samples) / record.sample_rate_hz


def _committed(annotation: CallAnnotation, window_end: int, fed_seconds: float) -> Iterator[CommittedWord]:
    rate = annotation.sample_rate_hz
    for word in annotation.words.words if annotation.words else ():
        yield CommittedWord(
            channel=annotation.channel,
            text=word.text,
            is_joined=word.is_joined,
            start_seconds=word.start_sample / rate,
            end_seconds=word.end_sample / rate,
            window_end_seconds=window_end / RATE,
            fed_seconds=fed_seconds,
        )


@dataclass(slots=True)
class _Watched:
    """The asr stage's logic, and for every words record the 16 kHz position at which its window ended."""

    logic: LaneLogic[AsrState, AsrWork, Hypothesis]
    ends: list[int] = field(default_factory=list)
    profile: ModelProfile | None = None

    @property
    def kinds(self) -> frozenset[str]:
        return self.logic.kinds

    @property
    def controls(self) -> frozenset[str]:
        return self.logic.controls

    def open(self, lane: Lane) -> AsrState:
        state = self.logic.open(lane)
        self.profile = state.profile
        return state

    def plan(self, state: AsrState, record: CallSpeech) -> Step[AsrState, AsrWork]:
        return self._noted(self.logic.plan(state, record), state.audio_end)

    def apply(self, state: AsrState, work: AsrWork, result: Hypothesis) -> Step[AsrState, AsrWork]:
        return self._noted(self.logic.apply(state, work, result), state.window_start + len(work.audio))

    def snapshot(self, state: AsrState) -> Snapshot | None:
        return self.logic.snapshot(state)

    def restore(self, lane: Lane, data: bytes) -> AsrState:
        return self.logic.restore(lane, data)

    def _noted(self, step: Step[AsrState, AsrWork], end: int) -> Step[AsrState, AsrWork]:
        self.ends += [end for draft in step.outputs if draft.kind == "words"]
        return step


@dataclass(slots=True)
class _Metered:
    """The asr stage's engine, and what it was asked for."""

    engine: Engine[AsrWork, Hypothesis]
    passes: int = 0
    tokens: int = 0
    cpu_seconds: float = 0.0

    @property
    def max_batch(self) -> int:
        return self.engine.max_batch

    @property
    def threads(self) -> int:
        return self.engine.threads

    def infer(self, batch: Sequence[AsrWork]) -> Sequence[Hypothesis]:
        before = time.process_time()
        results = self.engine.infer(batch)
        self.cpu_seconds += time.process_time() - before
        self.passes += len(results)
        self.tokens += sum(len(word.tokens) for result in results for word in result.words)
        return results


def channel_texts(transcript: Transcript) -> Mapping[int, str]:
    """Return everything heard on each channel that has segments."""
    texts: dict[int, list[str]] = {}
    for segment in transcript.segments:
        texts.setdefault(segment.channel, []).append(segment.text)
    return {channel: " ".join(pieces) for channel, pieces in texts.items()}


def shown_and_changed(shown: Iterable[tuple[int, float, float, str]], transcript: Transcript) -> tuple[int, int]:
    """Return how many distinct words (channel, start_seconds, end_seconds, text) were shown as committed, and how many of them
    the transcript does not hold at that place.
    """
    kept = {
        (segment.channel, word.start_seconds, word.end_seconds, word.text)
        for segment in transcript.segments
        for word in segment.words
    }
    words = set(shown)
    return len(words), len(words - kept)
