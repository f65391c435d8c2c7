"""``callscribe bench``: measurements, of the shipped recordings or of your own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import console, note, print_json, settings_of, stopped_in_order
from pipeline.cli.ingest import PolicyName
from pipeline.core.errors import FailedError, UsageError

if TYPE_CHECKING:
    from pipeline.bench.policy.figures import RecordingFigures
    from pipeline.bench.policy.live import LiveFigures
    from pipeline.bench.policy.variants import Variant
    from pipeline.bench.recordings import Recording
    from pipeline.runtime.settings import Settings

KILLED_CALLS = 4  # of the run whose asr worker is killed

group = typer.Typer(no_args_is_help=True, help="Measure this installation.")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    from pipeline.cli.bench_diarization import diarization
    from pipeline.cli.bench_live import live  # which has its options from here

    app.add_typer(group, name="bench")
    group.command(epilog="Example: callscribe bench diarization calls/ --speakers 2 --plot turns.svg")(diarization)
    group.command("live")(live)


@group.command(epilog="Example: callscribe bench policy --no-live --sweep --plot sweep.svg --json > policy.json")
def policy(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Recordings with references (name.json, name.txt); without it the shipped calls."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model name or folder (setting asr.model).")] = None,
    policies: Annotated[
        list[PolicyName] | None, typer.Option("--policy", help="Only this policy; may be repeated.")
    ] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Also over thresholds, n and steps.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write latency against word error rate to this SVG file.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes of the in-process part; default: cores.")] = None,
    live: Annotated[bool, typer.Option(help="Also run the recordings as live calls on an embedded broker.")] = True,
    live_calls: Annotated[int, typer.Option(min=1, max=128, help="Live calls at once.")] = 8,
    kill: Annotated[bool, typer.Option(help="Also a short live run whose asr worker is killed.")] = True,
    sounds: Annotated[bool, typer.Option(help="Also ten minutes of silence, tones, noise and music.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Compare the commit policies: word errors against offline decoding, latency of committed words, retractions, cost.

    Offline is the same model over the same speech regions, each decoded at once. Latency counts from the true end of a word:
    unaware to the end of the audio whose decoding committed it, fed to the end of all audio that had been fed by then, aware
    to the broker's timestamp of the commit.

    The live part takes as long as the recordings do, for each policy.
    """
    from pipeline.bench.policy import plot as plots
    from pipeline.bench.policy import report
    from pipeline.bench.policy.measure import measure, measure_sounds
    from pipeline.bench.policy.variants import Variant, swept
    from pipeline.bench.recordings import recordings, unreferenced

    if plot is not None and (plot.suffix.lower() != ".svg" or not plot.absolute().parent.is_dir()):
        raise UsageError(f"--plot {plot}: the name of an .svg file in a folder that exists")
    settings = settings_of(context, asr__model=model)
    found = recordings(folder)
    skipped = [str(path) for path in unreferenced(folder)] if folder is not None else []
    for path in skipped:
        note(f"{path}: no reference, left out")
    chosen = list(dict.fromkeys(policies or PolicyName))
    variants = [Variant(policy=one.value) for one in chosen]
    sweeps = swept([one.value for one in chosen]) if sweep else ()
    runs: dict[str, LiveFigures] = {}
    kills: dict[str, LiveFigures] = {}
    with stopped_in_order():
        processes = jobs or os.cpu_count() or 1
        figures = measure(found, [*variants, *sweeps], settings, jobs=processes, on_progress=_tell)
        no_speech = measure_sounds(variants, settings, jobs=processes) if sounds else None
        for variant in variants if live else ():
            runs[variant.policy], killed = _live(variant, settings, found, figures, at_once=live_calls, kill=kill)
            kills |= {variant.policy: killed} if killed else {}
    document = report.document(
        figures, variants, sweeps, live=runs, kill=kills, no_speech=no_speech, unreferenced=skipped
    )
    if plot is not None:
        points = report.points(document)
        if not points:
            raise FailedError("no latency was measured, so there is nothing to plot: the references tell no times")
        plot.write_text(plots.svg(points, document["offline"][report.ALL]["word_error_rate"]), encoding="utf-8")
        note(f"wrote {plot}")
    if as_json:
        print_json(document)
    else:
        _show(document)


def _live(
    variant: Variant,
    settings: Settings,
    found: Sequence[Recording],
    figures: Sequence[RecordingFigures],
    *,
    at_once: int,
    kill: bool,
) -> tuple[LiveFigures, LiveFigures | None]:
    """Return what came of the undisturbed run and, with ``kill``, of the short one whose asr worker was killed half-way."""
    from pipeline.bench.policy.live import live
    from pipeline.bench.system import own_folder, own_settings, running

    def say(text: str) -> None:
        note(f"{variant.policy}: {text}")

    truth = {each.name: each.truth for each in figures}
    with (
        own_folder(settings, f"policy-{variant.policy}") as work,
        running(own_settings(variant.applied(settings), work), say=say) as system,
    ):
        say(f"{len(found)} live calls, {at_once} at once")
        undisturbed = live(system, found, truth, at_once=at_once, say=say)
        if not kill:
            return undisturbed, None
        few = found[: min(KILLED_CALLS, at_once)]
        half = max(each.audio_seconds for each in figures if each.name in {one.name for one in few}) / 2
        say(f"{len(few)} live calls; the asr worker is killed after {half:.0f} s")
        killed = live(system, few, truth, at_once=at_once, say=say, kill_after_seconds=half)
        if not killed.restarts:
            raise FailedError("the asr worker was not there to be killed")
        return undisturbed, killed


def _tell(figures: RecordingFigures) -> None:
    note(f"{figures.name}: {figures.audio_seconds:.0f} s, {figures.offline.words} words")


def _show(document: dict[str, Any]) -> None:
    from pipeline.bench.policy.report import tables

    for table in tables(document):
        console.print(table)
    console.print(
        f"recordings {document['recordings']}, seconds {document['audio_seconds']:.0f}, words {document['words']}, "
        f"with known times {document['timed_words']}; model {document['model']}; processors {document['processors']}",
        markup=False,
        soft_wrap=True,
    )
