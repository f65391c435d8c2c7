"""Recordings through every way to stream, in processes of their own; the result does not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import Any

from pipeline import stages
from pipeline.asr.catalogue import catalogue
from pipeline.bench.offline import offline_model
from pipeline.bench.policy.figures import RecordingFigures, offline_errors, streaming_figures
from pipeline.bench.policy.no_speech import SECONDS, Heard, listen, sounds
from pipeline.bench.policy.streaming import speech_of, stream
from pipeline.bench.policy.variants import Variant
from pipeline.bench.recordings import Recording
from pipeline.bench.word_ends import true_words
from pipeline.core.errors import FailedError, InputError
from pipeline.runtime.settings import Settings


def measure(
    recordings: Sequence[Recording],
    variants: Sequence[Variant],
    settings: Settings,
    *,
    jobs: int,
    on_progress: Callable[[RecordingFigures], None] = lambda figures: None,
) -> tuple[RecordingFigures, ...]:
    """Return the figures of every recording, in order; ``on_progress`` hears of each as it comes.

    Raises NotReadyError when the model cannot be had or loaded, FailedError when a recording breaks off or a process dies.
    """
    catalogue(settings.asr)  # found, and downloaded where it must be, once for all processes
    workers = max(1, min(jobs, len(recordings)))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _follow_parent) as pool:
        futures = [pool.submit(measure_one, recording, tuple(variants), settings) for recording in recordings]
        try:
            for future in as_completed(futures):
                on_progress(future.result())
        except BaseException as error:
            for child in multiprocessing.active_children():
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise FailedError("a measuring process died") from None
            raise
    return tuple(future.result() for future in futures)


def measure_sounds(
    variants: Sequence[Variant], settings: Settings, *, jobs: int, seconds: float = SECONDS
) -> dict[str, dict[str, tuple[Heard, Heard]]]:
    """Return what every policy hears in every sound that is no speech: through the whole path, and with vad forced open.

    Raises NotReadyError when the model cannot be had or loaded, FailedError when a process dies.
    """
    names = tuple(sounds(1.0))
    with ProcessPoolExecutor(max(1, jobs), multiprocessing.get_context("spawn"), _follow_parent) as pool:
        futures = {
            (variant.policy, name, is_open): pool.submit(
                listen, name, seconds, variant.applied(settings), is_forced_open=is_open
            )
            for variant in variants
            for name in names
            for is_open in (True, False)
        }
        try:
            found = {key: future.result() for key, future in futures.items()}
        except BrokenProcessPool:
            raise FailedError("a measuring process died") from None
    return {
        variant.policy: {
            name: (found[variant.policy, name, False], found[variant.policy, name, True]) for name in names
        }
        for variant in variants
    }


def measure_one(recording: Recording, variants: tuple[Variant, ...], settings: Settings) -> RecordingFigures:
    """Return the figures of one recording; models are loaded once per process."""
    try:
        speech = speech_of(recording, settings, _engine("vad", settings))
        truth = true_words(recording, settings.asr)
    except InputError as error:
        raise FailedError(str(error)) from None
    last = speech[-1].record
    return RecordingFigures(
        name=recording.name,
        kind=recording.kind,
        audio_seconds=last.start_sample / last.sample_rate_hz,
        truth=truth,
        offline=offline_errors(recording, [fed.record for fed in speech], offline_model(settings.asr)),
        streaming=tuple(
            streaming_figures(recording, stream(speech, variant.applied(settings), _engine("asr", settings)), truth)
            for variant in variants
        ),
    )


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, which ends its processes, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, name="parent", daemon=True).start()


@lru_cache(maxsize=2)
def _engine(stage: str, settings: Settings) -> Any:
    return stages.spec(stage).make_engine(settings)
