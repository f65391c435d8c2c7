"""``callscribe chaos``: faults on a seeded schedule, and what they changed."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.chaos.schedule import KINDS, Kind
from pipeline.cli.common import console, note, print_json, settings_of, stopped_in_order
from pipeline.core.errors import FailedError, UsageError

FAULTS_A_MINUTE = 4.5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: callscribe chaos --calls 5 --minutes 2 --seed 7 --faults kill,stop")(chaos)


def chaos(
    context: typer.Context,
    calls: Annotated[int, typer.Option(min=1, max=500, help="Calls, fed in real time.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.5, max=1440, help="Length of the run.")] = 10.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults at the same times.")] = 1,
    faults: Annotated[str, typer.Option(help=f"Kinds of faults: {','.join(KINDS)}.")] = ",".join(KINDS),
    count: Annotated[
        int | None,
        typer.Option(min=1, help="How many (default: 4.5 a minute, and one of every kind).", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the work folder: logs, topics, store, audio.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Run the whole system on a broker and a store of its own, two workers a stage, and hurt it.

    kill, term and stop (for longer than the session) hit a worker; broker kills or restarts it; store locks it; poison puts unusable
    records into the topics; feed lets a feed vanish and come again. At the end every transcript is held against the one
    that the same audio gives undisturbed. Exit code 1 when a word is lost, there twice, or changed, a sample not accounted
    for, a poison not rejected, or no fault could be carried out.
    """
    from pipeline.bench.live.runs import work_folder
    from pipeline.chaos.report import document, lines
    from pipeline.chaos.run import Plan, run

    settings = settings_of(context)
    plan = Plan(
        calls=calls,
        seconds=minutes * 60,
        seed=seed,
        kinds=_kinds(faults),
        faults=count or round(FAULTS_A_MINUTE * minutes),
    )
    with stopped_in_order(), work_folder(settings, is_kept=True, name="chaos") as folder:
        try:
            outcome = run(settings, folder, plan, note)
        except BaseException:  # also stopped by hand, as a run is that stands still: its logs say why
            note(f"kept: {folder}")
            raise
        if not outcome.is_clean or keep:
            note(f"kept: {folder}")
        else:
            _remove(folder)
    if as_json:
        print_json(document(outcome))
    else:
        for line in lines(outcome):
            console.print(line, markup=False, soft_wrap=True)
    if not outcome.is_clean:
        raise FailedError(
            f"not as undisturbed (logs: {outcome.folder}); again with callscribe chaos --calls {calls} --minutes {minutes:g} "
            f"--seed {seed} --faults {faults} --count {plan.faults}"
        )


def _kinds(text: str) -> tuple[Kind, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in KINDS]
    if unknown or not names:
        raise UsageError(f"--faults takes some of {','.join(KINDS)}; got {text!r}")
    return tuple(kind for kind in KINDS if kind in names)


def _remove(folder: object) -> None:
    import shutil

    shutil.rmtree(str(folder), ignore_errors=True)
