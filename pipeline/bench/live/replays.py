"""What the transcripts of a run must be: every recording replayed in a process of its own, without Kafka."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bench.live.plan import PlannedRecording
from pipeline.bench.recordings import Recording
from pipeline.bench.word_ends import TrueWord, true_words
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import FeedOptions, records
from pipeline.runtime.settings import AsrSettings, Settings
from pipeline.sink.transcript import Transcript

if TYPE_CHECKING:
    from pipeline.replay import Replay

Document = dict[str, Any]  # a transcript without ids


def replay_all(settings: Settings, recordings: Mapping[str, PlannedRecording]) -> dict[str, Document]:
    """Return by name the transcripts of ``recordings`` without ids, replayed side by side.

    Raises what `pipeline.replay.Replay` raises.
    """
    tasks = [(settings, name, one) for name, one in recordings.items()]
    with _processes(len(tasks)) as pool:
        return dict(pool.map(_replay_one, tasks))


def spoken_words(asr: AsrSettings, recordings: Sequence[Recording]) -> dict[str, tuple[TrueWord, ...]]:
    """Return by name the words of ``recordings`` with their true times. Raises what `true_words` raises."""
    with _processes(len(recordings)) as pool:
        return dict(pool.map(_align_one, [(one, asr) for one in recordings]))


def without_ids(document: Document) -> Document:
    """Return a transcript without call_id and the ids made from it."""
    document = json.loads(json.dumps(document))
    del document["call_id"]
    for segment in document["segments"]:
        del segment["segment_id"]
    return document


@contextmanager
def _processes(tasks: int) -> Iterator[ProcessPoolExecutor]:
    """Give processes for so many tasks; on an error or an interrupt they are ended, whatever they do then."""
    context = multiprocessing.get_context("spawn")
    workers = max(1, min(tasks, os.cpu_count() or 1))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_alone) as pool:
        try:
            yield pool
        except BaseException:
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _leave_interrupts_alone() -> None:
    """An interrupt from the terminal goes to every process; what follows is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def _replay_of(settings: Settings) -> Replay:
    """Return the stages of this process, with their models loaded."""
    from pipeline.replay import Replay

    return Replay(settings)


def _replay_one(task: tuple[Settings, str, PlannedRecording]) -> tuple[str, Document]:
    settings, name, recording = task
    options = FeedOptions(roles=dict(enumerate(recording.roles)), record_seconds=settings.ingest.record_seconds)
    with open_audio(Path(recording.path)) as audio:
        fed = records(audio, options, call_id=name, capture_start_ms=0)
        return name, without_ids(Transcript.from_records(_replay_of(settings).segments(fed)).to_document())


def _align_one(task: tuple[Recording, AsrSettings]) -> tuple[str, tuple[TrueWord, ...]]:
    recording, asr = task
    return recording.name, true_words(recording, asr)
