"""``callscribe demo``: the main job, from nothing to a transcript, with one command."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import Context, console, note, print_json, settings_of
from pipeline.cli.ingest import SpeedName
from pipeline.core.errors import FailedError

if TYPE_CHECKING:
    from pipeline.core.wer import WordErrors
    from pipeline.demo.assets import DemoCall
    from pipeline.runtime.settings import Settings
    from pipeline.sink.transcript import Transcript

READY_SECONDS = 60.0
PATIENCE_SECONDS = 120.0  # after the last audio was fed


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: callscribe demo --speed max --json > demo.json")(demo)


@dataclass(frozen=True, slots=True)
class _Shown:
    """One call of this run."""

    call_id: str
    call: DemoCall


def demo(
    context: typer.Context,
    speed: Annotated[SpeedName, typer.Option(help="Like a live call, or as fast as the machine can.")] = SpeedName.REAL,
    calls: Annotated[
        int, typer.Option(min=1, max=200, help="How many calls at once; the shipped ones are repeated.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    model: Annotated[str | None, typer.Option(help="Model name or folder (setting asr.model).")] = None,
) -> None:
    """Start Kafka and every stage, feed the shipped two-channel calls, show the transcript as it is committed, stop everything.

    Works offline with the shipped model. Word commit latency is measured with --speed real; with max it is null.

    The work folder is <work folder>/demo; nothing outside it is touched.
    """
    from ulid import ULID

    from pipeline.demo import assets

    base = settings_of(context)
    folder = base.work_folder / "demo"
    quick = {} if "compiler" in base.broker.model_fields_set else {"broker__compiler": "quick"}
    quick["diarize__engine"] = "channel"  # its calls have one speaker a channel
    settings = settings_of(context, asr__model=model, runtime__work_folder=str(folder), **quick)
    root: Context = context.find_root().obj
    shipped = assets.calls()
    shown = [_Shown(f"demo-{call.name}-{ULID()}", call) for call in (shipped[i % len(shipped)] for i in range(calls))]
    with _running(settings, root.config):
        started = time.monotonic()
        _feed_and_show(settings, shown, speed=speed, is_quiet=as_json)
        wall = time.monotonic() - started
        document = _summary(settings, shown, wall, is_live=speed == SpeedName.REAL)
    if as_json:
        print_json({key: value for key, value in document.items() if not key.startswith("_")})
    else:
        _tell(document, folder)


@contextmanager
def _running(settings: Settings, config: Path | None) -> Iterator[None]:
    """Run all stages, and stop what was started."""
    from pipeline.cli.up import bring_up
    from pipeline.runtime.broker import EmbeddedBroker
    from pipeline.stages import STAGES

    for number in (signal.SIGTERM, signal.SIGHUP):  # stop what was started, as after Ctrl-C
        signal.signal(number, lambda got, frame: sys.exit(128 + got))
    supervisor = bring_up(settings, STAGES, workers=1, config=config, say=note)
    stop = threading.Event()
    watcher = threading.Thread(target=supervisor.run, args=(stop.is_set,), daemon=True)
    try:
        supervisor.wait_ready(READY_SECONDS)
        watcher.start()
        yield
    finally:
        stop.set()
        if watcher.is_alive():
            watcher.join()
        else:
            supervisor.stop()
        if supervisor.state.has_started_broker:
            EmbeddedBroker(settings).stop()


def _feed_and_show(settings: Settings, shown: list[_Shown], *, speed: SpeedName, is_quiet: bool) -> None:
    """Feed the calls, show them, return when the store says that all are complete."""
    from rich.live import Live

    from pipeline.demo.view import CallView, render
    from pipeline.runtime.tail import follow

    views = {item.call_id: CallView(item.call.name, list(item.call.roles.values())) for item in shown}
    names = {item.call_id: item.call.name for item in shown}
    stop = threading.Event()
    failure: list[BaseException] = []

    def feed() -> None:
        try:
            _feed(settings, shown, speed)
        except BaseException as error:
            failure.append(error)
            stop.set()

    feeding = threading.Thread(target=feed, daemon=True)
    deadline = float("inf")
    is_live = console.is_terminal and not is_quiet
    with Live(console=console, refresh_per_second=8, transient=False) if is_live else _nothing() as live:
        for record in follow(settings, stop=stop, on_ready=feeding.start):
            if record is not None and record.call_id in views:
                views[record.call_id].hear(record)
                if not is_live and not is_quiet and record.kind == "segment":
                    _print_segment(names[record.call_id], record)
            if live is not None:
                live.update(render(views, console.height))
            if not feeding.is_alive() and deadline == float("inf"):
                deadline = time.monotonic() + PATIENCE_SECONDS
            if all(view.is_complete for view in views.values()) and _is_stored(settings, shown):
                stop.set()
            elif time.monotonic() > deadline:
                stop.set()
                raise FailedError(
                    f"the calls did not complete within {PATIENCE_SECONDS:.0f} s; logs: {settings.work_folder / 'logs'}"
                )
    if failure:
        raise failure[0]
    feeding.join()


def _feed(settings: Settings, shown: list[_Shown], speed: SpeedName) -> None:
    """Feed every call, each with its hold as a control record."""
    from pipeline.demo.feeding import feed_calls
    from pipeline.runtime.call_state import CallOutlet

    outlet = CallOutlet(settings)
    try:
        feed_calls(
            [(item.call_id, item.call) for item in shown],
            outlet,
            speed=speed.value,
            record_seconds=settings.ingest.record_seconds,
            stop=threading.Event(),
        )
    finally:
        outlet.close()


def _is_stored(settings: Settings, shown: list[_Shown]) -> bool:
    from pipeline.sink.stores import open_store

    store = open_store(settings.store.url.get_secret_value(), settings.work_folder)
    try:
        states = {summary.call.call_id: summary.call.state for summary in store.calls(limit=max(500, 2 * len(shown)))}
    finally:
        store.close()
    return all(states.get(item.call_id) == "complete" for item in shown)


def _summary(settings: Settings, shown: list[_Shown], wall: float, *, is_live: bool) -> dict[str, Any]:
    """Return the document of ``--json``; keys with an underscore are for the text alone."""
    from pipeline.runtime.broker import EmbeddedBroker
    from pipeline.runtime.latency import percentile, word_commit_latencies
    from pipeline.sink.stores import open_store
    from pipeline.sink.transcript import Transcript

    store = open_store(settings.store.url.get_secret_value(), settings.work_folder)
    try:
        transcripts = [
            Transcript.from_stored(stored) for item in shown if (stored := store.read(item.call_id)) is not None
        ]
        uri = store.uri
    finally:
        store.close()
    scores = [_score(item.call, transcript) for item, transcript in zip(shown, transcripts, strict=True)]
    total = sum(scores[1:], scores[0])
    audio = sum(transcript.duration_seconds or 0.0 for transcript in transcripts)
    latencies = word_commit_latencies(settings, {item.call_id for item in shown}) if is_live else []
    broker = EmbeddedBroker(settings).status()
    p50, p95 = percentile(latencies, 0.5), percentile(latencies, 0.95)
    return {
        "calls": [
            {**transcript.to_document(), "reference_word_error_rate": round(score.rate, 4)}
            for transcript, score in zip(transcripts, scores, strict=True)
        ],
        "word_commit_latency_seconds": {"p50": p50 and round(p50, 3), "p95": p95 and round(p95, 3)},
        "real_time_factor": round(wall / audio, 4) if audio else None,
        "audio_seconds": round(audio, 3),
        "wall_seconds": round(wall, 3),
        "broker": {
            "kind": "embedded" if settings.is_embedded else "external",
            "version": broker.version if settings.is_embedded else None,
        },
        "store": uri,
        "_segments": sum(len(transcript.segments) for transcript in transcripts),
        "_words": total.words,
        "_rate": total.rate,
    }


def _score(call: DemoCall, transcript: Transcript) -> WordErrors:
    """Return the word errors of one transcript, channel by channel."""
    from pipeline.core.wer import normalise, word_error_rate

    scores = []
    for channel in call.roles:
        heard = " ".join(segment.text for segment in transcript.segments if segment.channel == channel)
        scores.append(word_error_rate(normalise(call.text(channel)), normalise(heard)))
    return sum(scores[1:], scores[0])


def _print_segment(name: str, record: Any) -> None:
    seconds = record.start_sample / record.sample_rate_hz
    console.print(
        f"{name:10} {int(seconds // 60)}:{seconds % 60:04.1f}  {record.segment.role:9} {record.segment.text}",
        markup=False,
        soft_wrap=True,
    )


def _tell(document: dict[str, Any], folder: Path) -> None:
    latency = document["word_commit_latency_seconds"]
    broker = document["broker"]
    lines = [
        f"{len(document['calls'])} calls, {document['audio_seconds']:.0f} s of audio, {document['_segments']} segments",
        f"word error rate {100 * document['_rate']:.1f} % over {document['_words']} reference words "
        "(synthetic speech, which the demo model was made for)",
    ]
    if latency["p50"] is not None:
        lines.append(
            f"word commit latency p50 {latency['p50']:.2f} s, p95 {latency['p95']:.2f} s after the word was spoken"
        )
    again = f"CALLSCRIBE_RUNTIME__WORK_FOLDER={folder} {_program()} transcript"
    lines += [
        f"real-time factor {document['real_time_factor']:.3f} ({document['wall_seconds']:.0f} s for all calls)",
        f"broker: {broker['kind']} Apache Kafka {broker['version'] or ''}; store: {document['store']}",
        f"again: {again} {document['calls'][0]['call_id']}",
    ]
    console.print()
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _program() -> str:
    """Return how this program was called, as somebody would type it here."""
    program = Path(sys.argv[0])
    try:
        return str(program.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(program)


@contextmanager
def _nothing() -> Iterator[None]:
    yield None
