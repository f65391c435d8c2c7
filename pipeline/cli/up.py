"""``callscribe up``, ``down`` and ``status``: all stages on this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import Context, console, note, print_json, settings_of
from pipeline.core.errors import FailedError, NotReadyError, UsageError

if TYPE_CHECKING:
    from pipeline.runtime.lag import StageLag
    from pipeline.runtime.settings import Settings
    from pipeline.runtime.supervise import Supervisor

READY_SECONDS = 90.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: callscribe up --detach && callscribe ingest call.wav")(up)
    app.command(epilog="Example: callscribe down")(down)
    app.command(epilog="Example: callscribe status --json")(status)


def up(
    context: typer.Context,
    stages: Annotated[str | None, typer.Option(help="Only these stages: vad,asr")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Workers per stage.")] = 1,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when everything is ready; stop with callscribe down.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Model name or folder (setting asr.model).")] = None,
) -> None:
    """Run all stages, supervised: a worker that dies is started again.

    Uses the embedded broker (started if needed) and SQLite unless configured otherwise. Creates missing topics.
    """
    settings = settings_of(context, asr__model=model)
    chosen = _stages(stages)
    if detach:
        _detach(context, settings, stages, workers, model)
        return
    supervisor = bring_up(settings, chosen, workers=workers, config=_config(context), say=note)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        supervisor.wait_ready(READY_SECONDS)
        note(f"ready: {', '.join(chosen)}. Feed a call: callscribe ingest FILE. Stop: Ctrl-C or callscribe down.")
        supervisor.run(stop.is_set)
    finally:
        supervisor.stop()
        if supervisor.state.has_started_broker:
            _stop_broker(settings)


def down(context: typer.Context) -> None:
    """Stop what callscribe up started: the workers, and the embedded broker if it was started with them."""
    from pipeline.runtime.supervise import read_state, shut_down

    settings = settings_of(context)
    state = read_state(settings.work_folder)
    ran = shut_down(settings.work_folder)
    if state is not None and state.has_started_broker:
        _stop_broker(settings)
    note("stopped" if ran else "nothing was up")


def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show what runs here: broker, stages, how far each stage is behind, calls. Exit code 3 when nothing is up or not ready."""
    document = _status(settings_of(context))
    if as_json:
        print_json(document)
    else:
        _show(document)
    if not document["is_ready"]:
        raise typer.Exit(NotReadyError.exit_code)


def bring_up(settings: Settings, stages: tuple[str, ...], *, workers: int, config: Path | None, say: Any) -> Supervisor:
    """Start broker, topics and workers; the caller waits for readiness and stops the supervisor.

    Raises NotReadyError before anything is started when a model or the store cannot be used.
    """
    from pipeline.runtime.broker import EmbeddedBroker
    from pipeline.runtime.provisioning import apply_topics
    from pipeline.runtime.supervise import Supervisor, is_running, read_state
    from pipeline.sink.stores import open_store

    other = read_state(settings.work_folder)
    if other is not None and is_running(other):
        raise FailedError(
            f"callscribe is already up in {settings.work_folder} (process {other.pid}): callscribe status, callscribe down"
        )
    if "asr" in stages:
        from pipeline.asr.catalogue import offered

        offered(settings.asr)
        if (settings.asr.device, settings.asr.compute_type) != ("auto", "default"):
            from pipeline.asr.engine import resolve_device

            resolve_device(settings.asr.device, settings.asr.compute_type)
    if "diarize" in stages:
        from pipeline.diarize.stage import SPEC

        SPEC.make_logic(settings)  # finds the models, or says what is missing
    if "sink" in stages:
        open_store(settings.store.url.get_secret_value(), settings.work_folder).close()
    broker = EmbeddedBroker(settings) if settings.is_embedded else None
    starts_broker = broker is not None and not broker.status().is_running
    model = Path(settings.asr.model)
    supervisor = Supervisor(
        settings.work_folder,
        stages,
        workers=workers,
        environment={
            "CALLSCRIBE_RUNTIME__WORK_FOLDER": str(settings.work_folder),
            "CALLSCRIBE_ASR__MODEL": str(model.resolve()) if model.is_dir() else settings.asr.model,
            "CALLSCRIBE_DIARIZE__ENGINE": settings.diarize.engine,
        },
        config=config,
        has_started_broker=starts_broker,
        on_event=say,
    )
    say(f"starting {'Apache Kafka, ' if starts_broker else ''}{', '.join(stages)}")
    supervisor.start()  # the workers load their models while the broker starts, and wait for it
    try:
        if broker is not None and starts_broker:
            broker.start()
        changes = apply_topics(settings)
    except BaseException:
        supervisor.stop()
        if broker is not None and starts_broker:
            broker.stop()
        raise
    if changes:
        say(f"{len(changes)} topics created or changed")
    return supervisor


def _detach(context: typer.Context, settings: Settings, stages: str | None, workers: int, model: str | None) -> None:
    """Run ``up`` in a process of its own and wait until it is ready."""
    from pipeline.runtime.supervise import is_running, read_state

    state = read_state(settings.work_folder)
    if state is not None and is_running(state):
        raise FailedError(
            f"callscribe is already up in {settings.work_folder} (process {state.pid}): callscribe status, callscribe down"
        )
    config = _config(context)
    command = [
        sys.executable,
        "-m",
        "pipeline",
        *(["--config", str(config)] if config else []),
        "up",
        "--workers",
        str(workers),
    ]
    command += ["--stages", stages] if stages else []
    command += ["--model", model] if model else []
    log = settings.work_folder / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    deadline = time.monotonic() + READY_SECONDS + 60
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            reason = lines[-1].removeprefix("callscribe: ") if lines else f"exit code {code}"
            raise (NotReadyError if code == NotReadyError.exit_code else FailedError)(f"{reason} (log: {log})")
        state = read_state(settings.work_folder)
        if (
            state is not None
            and state.pid == process.pid
            and state.workers
            and all(worker.is_ready for worker in state.workers)
        ):
            note(f"up: {len(state.workers)} workers. Logs: {log.parent}. Stop: callscribe down")
            return
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    raise NotReadyError(f"not ready after {READY_SECONDS + 60:.0f} s (log: {log})")


def _status(settings: Settings) -> dict[str, Any]:
    from pipeline.runtime.broker import EmbeddedBroker
    from pipeline.runtime.lag import missing, missing_topics, stage_lags
    from pipeline.runtime.supervise import is_running, read_state

    state = read_state(settings.work_folder)
    is_up = state is not None and is_running(state)
    broker: dict[str, Any] = {
        "kind": "external",
        "bootstrap_servers": settings.kafka.bootstrap_servers,
        "is_running": None,
    }
    if settings.is_embedded:
        embedded = EmbeddedBroker(settings).status()
        broker = {
            "kind": "embedded",
            "bootstrap_servers": embedded.bootstrap_servers,
            "is_running": embedded.is_running,
        }
    lags: dict[str, StageLag] = {}
    problems: list[str] = []
    gone: list[str] = []
    if broker["is_running"] is not False:
        try:
            lags = stage_lags(settings)
            gone = missing_topics(settings)
            problems += [missing(name) for name in gone]
            broker["is_running"] = True
        except NotReadyError as error:
            problems.append(str(error))
            broker["is_running"] = False
    problems = list(dict.fromkeys([*problems, *(lag.problem for lag in lags.values() if lag.problem)]))
    store, store_problem = _store_name(settings)
    problems += [store_problem] if store_problem else []
    workers = [
        {
            "name": worker.name,
            "stage": worker.stage,
            "state": "ready" if worker.is_ready else "starting" if worker.pid else "restarting",
            "pid": worker.pid,
            "restarts": worker.restarts,
            "lag_records": lags[worker.stage].records if worker.stage in lags else None,
            "lag_seconds": lags[worker.stage].seconds if worker.stage in lags else None,
            "last_words": _last_words(settings, worker.name) if not worker.is_ready else None,
        }
        for worker in (state.workers if is_up and state else [])
    ]
    return {
        "is_ready": bool(workers)
        and broker["is_running"] is True
        and all(worker["state"] == "ready" for worker in workers)
        and not gone,
        "is_up": is_up,
        "problem": problems[0] if problems else None,
        "problems": problems,
        "broker": broker,
        "store": store,
        "work_folder": str(settings.work_folder),
        "workers": workers,
    }


def _show(document: dict[str, Any]) -> None:
    from rich.table import Table

    broker = document["broker"]
    console.print(
        f"broker  {broker['kind']} {broker['bootstrap_servers'] or ''} {'running' if broker['is_running'] else 'not running'}"
    )
    console.print(f"store   {document['store']}", markup=False)
    for problem in document["problems"]:
        console.print(f"problem {problem}", markup=False, soft_wrap=True)
    if not document["workers"]:
        console.print("no stages are up here: callscribe up")
        return
    table = Table("worker", "state", "pid", "restarts", "behind (records)", "(seconds)")
    for worker in document["workers"]:
        lag = ("-" if worker[name] is None else f"{worker[name]:g}" for name in ("lag_records", "lag_seconds"))
        table.add_row(worker["name"], worker["state"], str(worker["pid"]), str(worker["restarts"]), *lag)
    console.print(table)
    for worker in document["workers"]:
        if worker["last_words"]:
            console.print(f"{worker['name']}: {worker['last_words']}", markup=False, soft_wrap=True)


def _last_words(settings: Settings, name: str) -> str | None:
    """Return the last line that a worker which is not ready has logged."""
    try:
        text = (settings.work_folder / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    lines = text.strip().splitlines()
    return lines[-1] if lines else None


def _store_name(settings: Settings) -> tuple[str, str | None]:
    """Return where the store is, and what is wrong with it."""
    from pipeline.sink.stores import open_store

    try:
        store = open_store(settings.store.url.get_secret_value(), settings.work_folder, create=False)
    except NotReadyError as error:
        return "-", str(error)
    try:
        store.check()
        return store.uri, None
    except NotReadyError as error:
        return store.uri, str(error)
    finally:
        store.close()


def _stages(text: str | None) -> tuple[str, ...]:
    from pipeline.stages import STAGES

    names = tuple(name.strip() for name in text.split(",")) if text else STAGES
    for name in names:
        if name not in STAGES:
            raise UsageError(f"no stage {name!r}; there are {', '.join(STAGES)}")
    return names


def _config(context: typer.Context) -> Path | None:
    root: Context = context.find_root().obj
    return root.config


def _stop_broker(settings: Settings) -> None:
    from pipeline.runtime.broker import EmbeddedBroker

    EmbeddedBroker(settings).stop()
