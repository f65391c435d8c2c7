"""A whole callscribe under its own supervisor, for tests: real broker, real worker processes, real models."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile

from pipeline.demo import assets
from pipeline.demo.feeding import feed_calls, options_of
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import records
from pipeline.replay import Replay
from pipeline.runtime.call_state import CallOutlet
from pipeline.runtime.settings import Settings
from pipeline.runtime.supervise import Supervisor
from pipeline.runtime.tail import follow
from pipeline.sink.stores import open_store
from pipeline.sink.transcript import Transcript
from pipeline.stages import STAGES

READY_SECONDS = 90.0
COMPLETE_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class System:
    """A running system."""

    settings: Settings
    supervisor: Supervisor

    def feed(self, calls: Sequence[tuple[str, assets.DemoCall]]) -> None:
        """Feed calls at full speed; returns when the broker has acknowledged every record."""
        outlet = CallOutlet(self.settings)
        try:
            feed_calls(calls, outlet, speed="max", record_seconds=0.2, stop=threading.Event())
        finally:
            outlet.close()

    def transcript(self, call_id: str) -> dict[str, Any]:
        """Return the transcript of a call once it is complete, without its ids."""
        store = open_store(self.settings.store.url.get_secret_value(), self.settings.work_folder)
        try:
            wait_for(lambda: _is_complete(store, call_id), COMPLETE_SECONDS, f"call {call_id} is complete")
            stored = store.read(call_id)
        finally:
            store.close()
        assert stored is not None
        return without_ids(Transcript.from_stored(stored).to_document())

    def processes(self) -> list[tuple[int, int]]:
        """Return the process of every worker, and how often it has been started again."""
        return [(worker.pid, worker.restarts) for worker in self.supervisor.state.workers]

    def pid(self, stage: str) -> int:
        """Return the process of the stage's first worker."""
        return next(worker.pid for worker in self.supervisor.state.workers if worker.stage == stage)

    def kill(self, stage: str) -> None:
        """Kill the stage's first worker; returns when the supervisor has started another."""
        pid = self.pid(stage)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.pid(stage) not in (0, pid) and psutil.pid_exists(self.pid(stage)), 30, "a new worker")


@contextmanager
def running(settings: Settings, *, workers: int = 1, environment: Mapping[str, str] | None = None) -> Iterator[System]:
    """Run every stage with ``settings``, whose topics exist."""
    supervisor = Supervisor(
        settings.work_folder, STAGES, workers=workers, environment=environment_of(settings) | dict(environment or {})
    )
    supervisor.start()
    stop = threading.Event()
    try:
        supervisor.wait_ready(READY_SECONDS)
        watcher = threading.Thread(target=supervisor.run, args=(stop.is_set,), daemon=True)
        watcher.start()
        try:
            yield System(settings, supervisor)
        finally:
            stop.set()
            watcher.join()
    finally:
        supervisor.stop()


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment that gives a process these settings."""
    found = {}
    for section, values in settings.model_dump(exclude_defaults=True).items():
        for name, value in values.items():
            text = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
            found[f"CALLSCRIBE_{section}__{name}".upper()] = text
    return found


def clip(call: assets.DemoCall, seconds: float, folder: Path) -> assets.DemoCall:
    """Return the first seconds of a shipped call as a call of its own."""
    audio, rate = soundfile.read(call.path, dtype="int16")
    path = folder / f"{call.name}-{seconds:g}.wav"
    soundfile.write(path, audio[: int(seconds * rate)], rate, subtype="ULAW")
    events = tuple(event for event in call.events if event.end_seconds <= seconds)
    return replace(call, path=path, events=events)


def looped(call: assets.DemoCall, seconds: float, folder: Path) -> assets.DemoCall:
    """Return a shipped call again and again: two people who talk without end."""
    audio, rate = soundfile.read(call.path, dtype="int16")
    samples = round(seconds * rate)
    path = folder / f"{call.name}-{seconds:g}.wav"
    soundfile.write(path, np.tile(audio, (-(-samples // len(audio)), 1))[:samples], rate, subtype="ULAW")
    return replace(call, path=path, events=())


def replayed(replay: Replay, call: assets.DemoCall) -> dict[str, Any]:
    """Return the transcript that the same audio gives in one process, without ids."""
    with open_audio(call.path, name=call.name) as audio:
        fed = records(audio, options_of(call, 0.2), call_id="replay", capture_start_ms=0)
        return without_ids(Transcript.from_records(replay.segments(fed)).to_document())


def without_ids(document: dict[str, Any]) -> dict[str, Any]:
    """Return the transcript without call_id and what is made from it."""
    document = json.loads(json.dumps(document))
    del document["call_id"]
    for segment in document["segments"]:
        del segment["segment_id"]
    return document


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when ``condition`` holds; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.1)


def wait_for_words(settings: Settings, call_id: str) -> None:
    """Return when committed words of the call are on the topics."""
    for record in follow(settings, call_id=call_id, from_beginning=True):
        if record is not None and record.kind == "words":
            return


def _is_complete(store: Any, call_id: str) -> bool:
    stored = store.read(call_id)
    return stored is not None and stored.call.state == "complete"
