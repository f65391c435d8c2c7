"""The only place that constructs a Faust app, and the entry point of a stage's process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import topics
from pipeline.core.contract import StageSpec
from pipeline.runtime import logs, security
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.provisioning import patiently, schema_source, wait_for_topics
from pipeline.runtime.settings import Settings
from pipeline.runtime.stopping import end_within
from schemas.codec import Codec

log = logging.getLogger("callscribe.worker")

GARBAGE_THRESHOLD = 20_000
READY_POLL_SECONDS = 0.2
SWITCH_SECONDS = 0.001  # a thread that comes back from a model waits so long for Python's lock, not 5 ms


def make_app(spec: StageSpec, settings: Settings, *, servers: str, folder: Path) -> Any:  # type: ignore[type-arg]
    """Return a Faust app for one stage, with the settings that keep it from losing data (ARCHITECTURE.md, "Faust")."""
    import faust
    from mode import CrashingSupervisor
    from yarl import URL

    from pipeline.runtime.transport import batch_fetches

    kafka, runtime = settings.kafka, settings.runtime
    session = kafka.session_timeout_seconds
    app = faust.App(
        id=f"{settings.topics.prefix}.{spec.name}",
        broker=[URL(url) for url in security.faust_broker(servers)],
        broker_credentials=security.faust_credentials(kafka),
        datadir=str(folder),
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        processing_guarantee="at_least_once",
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=False,
        stream_buffer_maxsize=runtime.stream_buffer_records,
        broker_session_timeout=session,
        broker_heartbeat_interval=max(session / 4, 1.0),
        broker_rebalance_timeout=max(30.0, session),
        broker_request_timeout=max(kafka.request_timeout_seconds, session + 5),
        broker_max_poll_interval=86_400.0,
        broker_max_poll_records=runtime.stream_buffer_records,
        broker_commit_interval=runtime.commit_interval_seconds,
        consumer_group_instance_id=f"{runtime.instance_id}.{spec.name}" if runtime.instance_id else None,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=9 * 1024 * 1024,
        table_standby_replicas=0,
        web_enabled=False,
        web_in_thread=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        worker_redirect_stdouts=False,
    )
    source = topics.topic(spec.input).full_name(settings.topics.prefix)
    batch_fetches(app, topic=source, wait_seconds=kafka.fetch_wait_seconds)
    return app


def run_stage(
    spec: StageSpec,  # type: ignore[type-arg]
    settings: Settings,
    *,
    status_file: Path | None = None,
    patience_seconds: float = 0.0,
) -> None:
    """Run one stage until SIGTERM or SIGINT. Ends by SystemExit.

    The model is loaded first; a broker or registry that is away is waited for ``patience_seconds``.

    ``status_file`` is written when the stage has its partitions and its state, for a supervisor that waits for it.
    Raises NotReadyError when the broker, a topic or a model is missing.
    """
    logs.configure(stage=spec.name, level=settings.runtime.log_level, style=settings.runtime.log_format)
    import faust
    import uvloop

    from pipeline.runtime.outbox import Outbox
    from pipeline.runtime.worker import StageWorker

    uvloop.install()  # before Faust makes its loops: one here, one in the consumer's thread

    logic, engine = spec.make_logic(settings), spec.make_engine(settings)
    _tune_collector()
    sys.setswitchinterval(SWITCH_SECONDS)
    wait_for_topics(settings, patience_seconds)
    servers = bootstrap_servers(settings)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="callscribe-"))
        app = make_app(spec, settings, servers=servers, folder=Path(folder))
        codec = Codec(patiently(lambda: schema_source(settings, is_writer=True), patience_seconds))
        outbox = Outbox(settings)
        stack.callback(outbox.close)
        StageWorker(app, spec, settings, codec, outbox, logic=logic, engine=engine).attach()
        _announce(app, status_file)
        silence = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))  # Faust's banner and cursor codes

        class Worker(faust.Worker):  # type: ignore[misc]
            async def stop(self) -> None:
                end_within()
                await super().stop()

            # Every service has stopped when these are called, and mode waits for two seconds more.
            def _gather_all(self) -> None:
                for task in asyncio.all_tasks(self.loop):
                    task.cancel()

            async def _sentinel_task(self) -> None:
                await asyncio.sleep(0)

        worker = Worker(app, quiet=True, loglevel=None, redirect_stdouts=False, override_logging=False, stdout=silence)
        worker.execute_from_commandline()


def _tune_collector() -> None:
    """Have the garbage collector leave alone what stays for ever, and look less often: records are freed by their counts."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def _announce(app: Any, status_file: Path | None) -> None:
    """Write the status file once partitions are assigned and tables recovered."""

    def ready() -> None:
        log.info("ready", extra={"partitions": len(app.consumer.assignment())})
        if status_file is not None:
            status_file.parent.mkdir(parents=True, exist_ok=True)
            status_file.write_text(str(os.getpid()), encoding="ascii")

    @app.task
    async def _watch() -> None:
        while not app.tables.recovery.completed.is_set() or app.rebalancing:  # noqa: ASYNC110 - Faust has no event for both
            await asyncio.sleep(READY_POLL_SECONDS)
        ready()
