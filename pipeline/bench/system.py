"""A callscribe of its own for one measurement: embedded broker, topics, a supervised worker per stage, an SQLite store.

Everything lies in one work folder. Only what was started here is stopped.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from pipeline.core.errors import UsageError
from pipeline.diarize.loading import check_extra
from pipeline.runtime.broker import EmbeddedBroker
from pipeline.runtime.provisioning import apply_topics
from pipeline.runtime.settings import BrokerSettings, KafkaSettings, SchemaSettings, Settings, StoreSettings
from pipeline.runtime.supervise import Supervisor, Worker
from pipeline.sink.stores import open_store
from pipeline.sink.stores.base import StoredCall
from pipeline.sink.transcript import Transcript
from pipeline.stages import STAGES, spec

READY_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class System:
    """A running system."""

    settings: Settings
    supervisor: Supervisor

    def worker(self, stage: str) -> Worker:
        """Return the first worker of a stage."""
        return next(worker for worker in self.supervisor.state.workers if worker.stage == stage)

    def is_complete(self, call_ids: set[str]) -> bool:
        """Return whether the store holds all the calls to their ends. Raises NotReadyError."""
        store = open_store(self.settings.store.url.get_secret_value(), self.settings.work_folder)
        try:
            return call_ids <= {summary.call.call_id for summary in store.calls(state="complete")}
        finally:
            store.close()

    def transcripts(self, call_ids: set[str]) -> dict[str, Transcript]:
        """Return the stored transcripts of the calls that the store knows. Raises NotReadyError."""
        return {call_id: Transcript.from_stored(stored) for call_id, stored in self.stored(call_ids).items()}

    def stored(self, call_ids: set[str]) -> dict[str, StoredCall]:
        """Return the rows of the calls that the store knows. Raises NotReadyError."""
        store = open_store(self.settings.store.url.get_secret_value(), self.settings.work_folder)
        try:
            found = {call_id: store.read(call_id) for call_id in sorted(call_ids)}
        finally:
            store.close()
        return {call_id: stored for call_id, stored in found.items() if stored is not None}


@contextmanager
def own_folder(settings: Settings, name: str) -> Iterator[Path]:
    """Give a new folder below the work folder; removed when the measurement succeeds, left for its logs when it fails."""
    parent = settings.work_folder / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def own_settings(settings: Settings, folder: Path, *, has_voices: bool = False) -> Settings:
    """Return the settings for a system that shares nothing with the deployment they describe but how it works.

    Diarization models are loaded only where calls have channels of several voices.
    """
    return settings.model_copy(
        update={
            "kafka": KafkaSettings(
                fetch_wait_seconds=settings.kafka.fetch_wait_seconds,
                linger_seconds=settings.kafka.linger_seconds,
                session_timeout_seconds=settings.kafka.session_timeout_seconds,
            ),
            "broker": BrokerSettings(heap_mb=settings.broker.heap_mb, compiler=settings.broker.compiler),
            "schemas": SchemaSettings(),
            "store": StoreSettings(),
            "diarize": settings.diarize if has_voices else settings.diarize.model_copy(update={"engine": "channel"}),
            "runtime": settings.runtime.model_copy(update={"work_folder": str(folder), "instance_id": ""}),
        }
    )


def check_voices(settings: Settings) -> None:
    """Return when the diarize stage can tell the voices of one channel apart.

    Raises UsageError where the settings say that it does not, NotReadyError where its extra or a model is missing.
    """
    if settings.diarize.engine == "channel":
        raise UsageError(
            "setting diarize.engine is channel: it tells no speakers of one channel apart; auto and diart do"
        )
    check_extra()
    spec("diarize").make_logic(settings)


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment that gives a process these settings, whatever its settings file and environment say."""
    found = {}
    for section, values in settings:
        for name, value in values:
            if value is not None:
                found[f"CALLSCRIBE_{section}__{name}".upper()] = _text(value)
    return found


@contextmanager
def running(
    settings: Settings, *, workers: int = 1, say: Callable[[str], None] = lambda text: None
) -> Iterator[System]:
    """Run broker and stages with ``settings`` (see `own_settings`). Raises NotReadyError, FailedError."""
    broker = EmbeddedBroker(settings)
    supervisor = Supervisor(
        settings.work_folder,
        STAGES,
        workers=workers,
        environment=environment_of(settings),
        has_started_broker=True,
        on_event=say,
    )
    stop = threading.Event()
    watcher = threading.Thread(target=supervisor.run, args=(stop.is_set,), name="supervisor", daemon=True)
    try:
        supervisor.start()  # the workers load their models while the broker starts, and wait for it
        broker.start()
        apply_topics(settings)
        supervisor.wait_ready(READY_SECONDS)
        watcher.start()
        yield System(settings, supervisor)
    finally:
        stop.set()
        if watcher.is_alive():
            watcher.join()
        supervisor.stop()
        broker.stop()


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(str(one) for one in value) if isinstance(value, tuple) else str(value)
