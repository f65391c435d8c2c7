"""``callscribe bench diarization``: who speaks when on recordings of one channel, measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipeline.cli.common import console, errors, note, print_json, settings_of, stopped_in_order
from pipeline.cli.ingest import SpeakerCount
from pipeline.core.errors import UsageError

if TYPE_CHECKING:
    from pipeline.bench.diarization.figures import RecordingFigures
    from pipeline.bench.diarization.recordings import Recording

TABLE_WIDTH = 110  # where stdout is no terminal


def diarization(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Recordings with references (name.rttm); without it the shipped calls."),
    ] = None,
    speakers: SpeakerCount = None,
    baseline: Annotated[bool, typer.Option("--baseline", help="Also diart's own pipeline, same models.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write reference and output as timelines to this SVG file.")] = None,
    rttm: Annotated[
        Path | None, typer.Option(help="Write the output of each recording as RTTM to this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Measure who speaks when: each recording as a call of one mixed channel, through the vad and diarize stages.

    The diarization error rate (DER) is that of pyannote.metrics over the whole recording, overlapped speech included: without a
    collar, and with 0.25 s left out on each side of every boundary of the reference. A word is wrong when the label that overlaps
    it most belongs to somebody else. Label changes are turns behind the first 15 s whose speaker has another label than before.
    Latency is how much audio behind a moment of speech had been fed when its speaker was final.
    """
    from pipeline.bench.diarization import plot as plots
    from pipeline.bench.diarization import report
    from pipeline.bench.diarization.measure import measure
    from pipeline.bench.diarization.recordings import recordings, unreferenced
    from pipeline.bench.diarization.running import Speakers
    from pipeline.bench.diarization.scoring import check_metrics
    from pipeline.diarize.stage import engine_of
    from pipeline.ingest.options import speaker_limits

    if plot is not None and (plot.suffix.lower() != ".svg" or not plot.absolute().parent.is_dir()):
        raise UsageError(f"--plot {plot}: the name of an .svg file in a folder that exists")
    if rttm is not None and rttm.exists() and not rttm.is_dir():
        raise UsageError(f"--rttm {rttm}: is not a folder")
    least, most = speaker_limits(speakers)
    wanted = Speakers(least=least, most=most)
    check_metrics()
    settings = settings_of(context)
    found = recordings(folder)
    skipped = [str(path) for path in unreferenced(folder, found)] if folder is not None else []
    for path in skipped:
        note(f"{path}: no reference, left out")
    with stopped_in_order(), _progress(found) as (progressed, done):
        figures = measure(
            found, settings, speakers=wanted, with_baseline=baseline, on_progress=progressed, on_figures=done
        )
    document = report.document(figures, engine=engine_of(settings), speakers=wanted, unreferenced=skipped)
    if plot is not None:
        plot.write_text(plots.svg(figures), encoding="utf-8")
        note(f"wrote {plot}")
    if rttm is not None:
        _write(figures, rttm)
    if as_json:
        print_json(document)
        return
    wide = console if console.is_terminal else Console(highlight=False, width=TABLE_WIDTH)
    wide.print(report.table(document))
    console.print(
        f"recordings {len(figures)}, seconds {document[report.ALL]['audio_seconds']:.0f}; engine {document['engine']}; "
        f"processors {document['processors']}",
        markup=False,
        soft_wrap=True,
    )


def _write(figures: Sequence[RecordingFigures], folder: Path) -> None:
    """Write the output of each recording as ``<name>.rttm``; names with folders keep them."""
    from pipeline.core.rttm import SpeakerTurn, write_rttm

    for each in figures:
        turns = sorted((start, label, end) for label, spans in each.output.items() for start, end in spans)
        path = folder / f"{each.name}.rttm"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                write_rttm(
                    SpeakerTurn(
                        file=Path(each.name).name, start_seconds=start, duration_seconds=end - start, speaker=label
                    )
                    for start, label, end in turns
                ),
                encoding="utf-8",
            )
        except OSError as error:
            raise UsageError(f"--rttm {path}: cannot be written ({error.strerror})") from None
    note(f"wrote {len(figures)} RTTM files to {folder}")


@contextmanager
def _progress(found: Sequence[Recording]) -> Iterator[tuple[Any, Any]]:
    """Yield what hears of progress, and of recordings that are done: a bar on a terminal, else a line per recording."""

    def say(figures: RecordingFigures) -> None:
        rate = figures.accuracy.strict.rate
        note(
            f"{figures.name}: {figures.cost.audio_seconds:.0f} s, DER {'-' if rate is None else f'{100 * rate:.1f} %'}"
        )

    if not errors.is_terminal:
        yield (lambda recording, seconds: None), say
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, redirect_stdout=sys.stdout.isatty()) as bars:
        task = bars.add_task("recordings", total=len(found))

        def hear(recording: Recording, seconds: float) -> None:
            bars.update(task, description=f"{recording.name} {seconds:.0f} s")

        def count(figures: RecordingFigures) -> None:
            bars.advance(task)
            say(figures)

        yield hear, count
