"""``callscribe ingest``: recordings, folders and pipes to call.audio."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from pipeline.cli.common import errors, note, print_json, settings_of
from pipeline.core.errors import InputError, UsageError
from pipeline.core.ids import is_call_id
from pipeline.runtime.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from pipeline.ingest.feed import FedCall
    from pipeline.ingest.sources import Source
    from pipeline.ingest.sources.watch import Journal

EXAMPLES = """Examples:

callscribe ingest call.wav --role 0=agent --role 1=customer

callscribe ingest recordings/ --speed real

callscribe ingest recordings/ --watch

sox call.wav -t raw -e mu-law - | callscribe ingest - --encoding mulaw --rate 8000 --channels 2
"""
STDIN = "-"
WATCHED_SIDE_BY_SIDE = 32
MAX_BARS = 8
INTERRUPTED = 130


class SpeedName(StrEnum):
    """Values of --speed."""

    REAL = "real"
    MAX = "max"


class PolicyName(StrEnum):
    """Values of --policy."""

    ALIGNATT = "alignatt"
    LOCAL_AGREEMENT = "local_agreement"


class TaskName(StrEnum):
    """Values of --task."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


# Options that `callscribe replay` takes as well.
Role = Annotated[
    list[str] | None,
    typer.Option(metavar="N=ROLE", help="Who is on channel N (default: 1 channel mixed; 2 agent and customer)."),
]
Encoding = Annotated[
    str | None,
    typer.Option(help="Samples without a header: mulaw, alaw, pcm_{s16le,s16be,u8,s24le,s32le,f32le}."),
]
Rate = Annotated[int | None, typer.Option(help="Sample rate in Hz, with --encoding (default: 8000).")]
Channels = Annotated[int | None, typer.Option(help="Interleaved channels, with --encoding (default: 1).")]
Language = Annotated[str | None, typer.Option(help="ISO 639-1 code, or auto (default: setting asr.language).")]
Policy = Annotated[PolicyName | None, typer.Option(help="When words are committed (default: the model's).")]
Task = Annotated[TaskName | None, typer.Option(help="Translate gives English text (default: setting asr.task).")]
SpeakerCount = Annotated[
    str | None,
    typer.Option("--speakers", metavar="N|N-M|auto", help="Speakers on a mixed channel (default: the deployment's)."),
]
Prompt = Annotated[str | None, typer.Option(help="Text that precedes the call for the recogniser.")]
HotWord = Annotated[list[str] | None, typer.Option(metavar="WORD", help="A word to prefer; may be repeated.")]
Attribute = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Stored with the call (queue, agent); may be repeated.")
]
Tenant = Annotated[str | None, typer.Option(help="Owner of the call.")]
Controls = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help='Control records, JSON lines: {"at_seconds": 9.5, "kind": "hold", "active": true}'
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("ingest", epilog=EXAMPLES)(ingest)


def ingest(
    context: typer.Context,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders, or - for a pipe.")],
    call_id: Annotated[str | None, typer.Option(help="Id of the call (default: a new one); for one source.")] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take the call from a feed that holds it: what that sends is dropped.")
    ] = False,
    speed: Annotated[
        SpeedName, typer.Option(help="Paced like a live call, or as fast as acknowledged.")
    ] = SpeedName.MAX,
    role: Role = None,
    encoding: Encoding = None,
    rate: Rate = None,
    channels: Channels = None,
    language: Language = None,
    prompt: Prompt = None,
    hot_word: HotWord = None,
    model: Annotated[str | None, typer.Option(help="One of the models that the workers offer (asr.models).")] = None,
    policy: Policy = None,
    task: Task = None,
    speakers: SpeakerCount = None,
    attribute: Attribute = None,
    tenant: Tenant = None,
    controls: Controls = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and feed what appears in the folders.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Feed recordings to call.audio; returns when every record is acknowledged.

    Reads WAV, FLAC, MP3, Ogg, Opus, AIFF, AU, MP4, WebM, AAC, AMR, and raw PCM
    or G.711, of any rate and number of channels. Prints the ids of the calls.

    A source that cannot be used is named, the others go on, and the exit code
    is 4. With --speed real the calls run side by side, else one by one.

    A call that was interrupted goes on under its --call-id: a recording is read
    again from its start, a pipe brings what follows.
    """
    from pipeline.asr.catalogue import check_language
    from pipeline.ingest.intake import MAX_CONCURRENT_CALLS, Intake, feed_all
    from pipeline.ingest.options import feed_options, raw_format
    from pipeline.runtime.call_state import CallOutlet

    settings = settings_of(context)
    _check_usage(sources, call_id=call_id, watch=watch, as_json=as_json)
    if take_over and call_id is None:
        raise UsageError("--take-over takes a call: name it with --call-id")
    raw = raw_format(encoding=encoding, rate=rate, channels=channels, max_channels=settings.ingest.max_channels)
    options = feed_options(
        roles=role or (),
        language=language,
        prompt=prompt,
        hot_words=hot_word or (),
        model=model,
        policy=policy,
        task=task,
        speakers=speakers,
        offered_models=settings.asr.offered,
        attributes=attribute or (),
        tenant=tenant,
        controls=controls,
        record_seconds=settings.ingest.record_seconds,
    )
    if language is not None:
        check_language(settings.asr, language, model)
    stop = threading.Event()
    found, journal = _find(settings, sources, stop, is_raw=raw is not None, watch=watch)
    if call_id is not None and isinstance(found, list) and len(found) > 1:
        raise UsageError(f"--call-id names one call, the sources are {len(found)}")
    calls: list[FedCall] = []
    with (
        _stopped_by_signals(stop) as signalled,
        _Bars(is_shown=errors.is_terminal and not as_json, journal=journal) as bars,
    ):
        intake = Intake(
            options=options,
            raw=raw,
            speed=speed.value,
            max_channels=settings.ingest.max_channels,
            new_call_id=_new_call_id,
            connect=lambda: CallOutlet(settings),
            listener=bars,
            call_id=call_id,
            take_over=take_over,
            stop=stop,
        )
        side_by_side = len(found) if isinstance(found, list) else WATCHED_SIDE_BY_SIDE
        workers = 1 if speed == SpeedName.MAX else min(side_by_side, MAX_CONCURRENT_CALLS)
        try:
            for call in feed_all(found, intake, workers=workers, stop=stop):
                bars.finished(call)
                calls.append(call)
                _tell(call, as_json=as_json)
        finally:
            intake.close()
    if as_json:
        print_json({"calls": [asdict(call) for call in calls]})
    bad = [call for call in calls if call.outcome != "ended"]
    if len(calls) > 1:
        note(f"{len(calls) - len(bad)} calls fed, {len(bad)} not")
    if signalled.is_set():
        raise typer.Exit(INTERRUPTED)
    if bad:
        raise typer.Exit(InputError.exit_code)


def _check_usage(sources: Sequence[str], *, call_id: str | None, watch: bool, as_json: bool) -> None:
    if call_id is not None and not is_call_id(call_id):
        raise UsageError(f"--call-id {call_id[:140]!r} is not 1 to 128 of A-Z a-z 0-9 . _ : -")
    if call_id is not None and (len(sources) > 1 or watch):
        raise UsageError("--call-id names one call: give one source, and no --watch")
    if sources.count(STDIN) > 1:
        raise UsageError("- is the one pipe of the command: give it once")
    if watch and as_json:
        raise UsageError("--json prints one document at the end, and --watch has no end")
    for source in sources if watch else ():
        if not Path(source).is_dir():
            raise UsageError(f"--watch watches folders, and {source} is not one")


def _find(
    settings: Settings, sources: Sequence[str], stop: threading.Event, *, is_raw: bool, watch: bool
) -> tuple[list[Source] | Iterator[Source], Journal | None]:
    from pipeline.ingest.sources import Source
    from pipeline.ingest.sources.files import find_sources
    from pipeline.ingest.sources.stdin import PipeStream

    if watch:
        from pipeline.ingest.sources.watch import Journal, journal_path
        from pipeline.ingest.sources.watch import watch as watch_folders

        folders = [Path(source) for source in sources]
        journal = Journal(journal_path(settings.work_folder, folders))
        note(f"watching {', '.join(sources)}; Ctrl-C stops")
        found = watch_folders(
            folders, journal, is_raw=is_raw, wall=time.time, monotonic=time.monotonic, wait_stopped=stop.wait
        )
        return found, journal
    listed: list[Source] = []
    for source in sources:
        if source == STDIN:
            listed.append(
                Source(
                    name=STDIN,
                    stream=lambda: PipeStream(sys.stdin.fileno(), is_stopped=stop.is_set),
                    is_repeatable=False,
                )
            )
        else:
            listed += find_sources(Path(source), is_raw=is_raw)
    return listed, None


def _new_call_id() -> str:
    from ulid import ULID

    return str(ULID())


def _tell(call: FedCall, *, as_json: bool) -> None:
    """Say what became of one source: for people on stderr, the id of a complete call on stdout."""
    if call.outcome == "refused":
        note(f"callscribe: {call.source}: {call.reason}")
        return
    if call.outcome == "interrupted":
        consequence = f"; call {call.call_id} is interrupted" if call.call_id else ""
        note(f"callscribe: {call.source}: {call.reason}{consequence}")
        return
    note(f"{call.source}: {call.duration_seconds:.1f} s, {call.channels} channel(s), {call.records} records")
    if not as_json:
        print(call.call_id, flush=True)  # to sys.stdout, which the bars stand aside for on a terminal


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[threading.Event]:
    """Let SIGINT and SIGTERM stop the feeds in order (the event given is set then); a second SIGINT stops at once."""
    from pipeline.runtime.stopping import end_within

    signalled = threading.Event()

    def hear(number: int, frame: Any) -> None:
        if signalled.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        signalled.set()
        stop.set()
        end_within()  # a broker that is away acknowledges nothing

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Bars:
    """Progress on a terminal, one bar per call up to `MAX_BARS` at once; keeps the journal of a watch."""

    def __init__(self, *, is_shown: bool, journal: Journal | None) -> None:
        self._is_shown = is_shown
        self._journal = journal
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._is_shown:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f} s"),
                TimeElapsedColumn(),
                console=errors,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
            )
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
        if self._journal is not None:
            self._journal.close()

    def began(self, source: Source, call_id: str, duration_seconds: float | None) -> None:
        """Hear that ``source`` becomes ``call_id``."""
        if self._journal is not None:
            self._journal.begin(source.name, call_id)
        if self._progress is not None and len(self._tasks) < MAX_BARS:
            self._tasks[source.name] = self._progress.add_task(Path(source.name).name, total=duration_seconds)

    def progressed(self, source: Source, seconds: float) -> None:
        """Hear that so many seconds of audio have been produced."""
        if self._progress is not None and source.name in self._tasks:
            self._progress.update(self._tasks[source.name], completed=seconds)

    def finished(self, call: FedCall) -> None:
        """Hear what became of a source."""
        if self._journal is not None:
            self._journal.finish(call)
        if self._progress is not None and call.source in self._tasks:
            self._progress.remove_task(self._tasks.pop(call.source))
