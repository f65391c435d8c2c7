"""A recording as a call of one mixed channel through the vad and diarize stages in this process.

The same logic, engines and `CallFlow` as in the workers, record by record. What diarize wrote is noted together with the end of all
audio that had been fed by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import stages
from pipeline.bench.stage_run import run_of
from pipeline.core import g711
from pipeline.core.contract import Engine
from pipeline.core.speakers import MIXED
from pipeline.ingest.chunks import SAMPLE_BYTES, CallDescription, Feed
from pipeline.ingest.decode import open_audio
from pipeline.runtime.settings import Settings
from schemas.records import CallAudio, Channel, Turns

CALL = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speakers:
    """How many speakers the call says it has; None leaves a side to the settings."""

    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTurns:
    """A ``turns`` record, the rate of its positions, and the end of all audio that had been fed when it was written."""

    turns: Turns
    sample_rate_hz: int
    fed_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Diarized:
    """What came of one recording. Seconds of processor (all threads of the process) and of wall clock are those of diarize alone."""

    audio_seconds: float
    written: tuple[WrittenTurns, ...]
    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The engines of the two stages; a stage that infers nothing has none."""

    vad: Engine[Any, Any] | None
    diarize: Engine[Any, Any] | None


def engines_of(settings: Settings) -> Engines:
    """Return the engines of the settings. Raises NotReadyError when a model cannot be had or loaded."""
    vad, diarize = (stages.spec(name).make_engine(settings) for name in ("vad", "diarize"))
    return Engines(vad=vad, diarize=diarize)


def diarize(
    path: Path,
    settings: Settings,
    engines: Engines,
    speakers: Speakers,
    *,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> Diarized:
    """Return what diarize says of a recording; ``on_progress`` hears how many seconds have been fed. Raises InputError."""
    vad = run_of("vad", stages.spec("vad").make_logic(settings), engines.vad, CALL)
    stage = run_of("diarize", stages.spec("diarize").make_logic(settings), engines.diarize, CALL)
    fed_seconds = cpu_seconds = wall_seconds = 0.0
    written: list[WrittenTurns] = []
    for record in mixed_call(path, speakers, record_seconds=settings.ingest.record_seconds):
        fed_seconds = max(fed_seconds, _end_seconds(record))
        for speech in vad.feed(record):
            cpu, wall = time.process_time(), time.perf_counter()
            annotations = stage.feed(speech)
            cpu_seconds += time.process_time() - cpu
            wall_seconds += time.perf_counter() - wall
            written += [
                WrittenTurns(turns=one.turns, sample_rate_hz=one.sample_rate_hz, fed_seconds=fed_seconds)
                for one in annotations
                if one.kind == "turns" and one.turns is not None
            ]
        on_progress(fed_seconds)
    return Diarized(
        audio_seconds=fed_seconds, written=tuple(written), cpu_seconds=cpu_seconds, wall_seconds=wall_seconds
    )


def mixed_call(path: Path, speakers: Speakers, *, record_seconds: float) -> Iterator[CallAudio]:
    """Yield the records of a call with one mixed channel. Several channels are added up, each at an equal share.

    Raises InputError, also on the way.
    """
    with open_audio(path) as source:
        is_mono = source.channels == 1
        channel = Channel(
            channel=0,
            role=MIXED,
            sample_rate_hz=source.sample_rate_hz,
            encoding=source.encoding if is_mono else "pcm_s16le",
        )
        feed = Feed(
            CallDescription(
                call_id=CALL,
                channels=(channel,),
                capture_start_ms=0,
                record_seconds=record_seconds,
                min_speakers=speakers.least,
                max_speakers=speakers.most,
            )
        )
        yield from feed.start()
        for blocks in source.blocks():
            yield from feed.push(blocks if is_mono else [_added(blocks, source.encoding)])
        yield from feed.end()


def _added(blocks: Sequence[bytes], encoding: str) -> bytes:
    if encoding == "pcm_s16le":
        channels = [np.frombuffer(block, dtype="<i2") for block in blocks]
    else:
        channels = [g711.decode(block, "mulaw" if encoding == "mulaw" else "alaw") for block in blocks]
    return bytes(np.rint(np.mean(channels, axis=0)).astype("<i2").tobytes())


def _end_seconds(record: CallAudio) -> float:
    samples = 0 if record.audio is None else len(record.audio.data) // SAMPLE_BYTES[record.audio.encoding]
    return (record.start_sample + samples) / record.sample_rate_hz
