"""``callscribe bench live``: how many calls this machine transcribes at once, and how late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import console, note, print_json, settings_of, stopped_in_order
from pipeline.cli.ingest import PolicyName
from pipeline.core.errors import FailedError, UsageError

if TYPE_CHECKING:
    from pipeline.bench.live.compositions import Load
    from pipeline.bench.live.result import LiveRun
    from pipeline.bench.live.runs import Length, LiveBench
    from pipeline.runtime.settings import Settings

MAX_CALLS = 2000
SHORT_SPREAD_SECONDS = 20.0  # of the runs of --find that only narrow the answer down
SHORT_MEASURE_SECONDS = 60.0
ABANDON_SECONDS = 60.0  # such a run is over when a stage is so far behind


def live(
    context: typer.Context,
    calls: Annotated[int | None, typer.Option(min=1, max=MAX_CALLS, metavar="N", help="Run N calls.")] = None,
    find: Annotated[bool, typer.Option("--find", help="Search the largest N that passes.")] = False,
    mono: Annotated[
        bool, typer.Option("--mono", help="One channel of continuous speech a call, instead of two-channel calls.")
    ] = False,
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="Both speakers on one channel, for diarization to tell apart (needs its extra)."),
    ] = False,
    spread_seconds: Annotated[float, typer.Option(min=0, max=3600, help="The calls start evenly over so long.")] = 60.0,
    measure_seconds: Annotated[
        float, typer.Option(min=1, max=86400, help="Figures are taken for so long after the last start.")
    ] = 180.0,
    p95_seconds: Annotated[
        float, typer.Option(min=0.1, max=60, help="Limit of the 95th percentile of word commit latency.")
    ] = 2.0,
    first: Annotated[int, typer.Option("--from", min=1, max=MAX_CALLS, help="Calls of the first run of --find.")] = 16,
    limit: Annotated[int, typer.Option("--to", min=1, max=MAX_CALLS, help="Most calls that --find tries.")] = 256,
    step: Annotated[int, typer.Option(min=1, max=MAX_CALLS, help="Calls between two answers of --find.")] = 4,
    compositions: Annotated[int, typer.Option(min=1, help="Calls with different audio, at most.")] = 10,
    sample_seconds: Annotated[float, typer.Option(min=1, max=60, help="Between two looks at the lag.")] = 5.0,
    model: Annotated[str | None, typer.Option(help="Model name or folder (setting asr.model).")] = None,
    policy: Annotated[PolicyName | None, typer.Option(help="Commit policy (setting asr.policy).")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the work folder: logs, topics, store, audio.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Run real-time calls through the whole system, on a broker and a store of its own, and measure it.

    The shipped calls are strung together to calls as long as the run. Word commit latency is the broker's timestamp of the
    commit minus the capture time of the word's true end. A run counts only if the load was real time, no worker died, and
    every transcript equals the replay of its audio; else the exit code is 1. Everything on the machine is measured with it:
    leave it alone meanwhile.

    With --mixed the two channels of every call are summed. How long after its word was committed a speaker is known is
    measured too, with a target of 3 s for the 95th percentile, and how many words have a speaker.

    --find doubles from --from until a short run fails, bisects, and confirms the answer by a full run.

    Example: callscribe bench live --calls 20 --json

    Example: callscribe bench live --find --from 40 --to 100

    Example: callscribe bench live --mixed --calls 4
    """
    from pipeline.asr.loading import resolve_model
    from pipeline.bench.live.compositions import interleaved
    from pipeline.bench.live.report import closing_lines, headline, tables
    from pipeline.bench.live.runs import Length, LiveBench, work_folder
    from pipeline.bench.recordings import recordings
    from pipeline.bench.system import check_voices

    if (calls is None) != find:
        raise UsageError("give either --calls N or --find")
    if mono and mixed:
        raise UsageError("give either --mono or --mixed")
    load: Load = "mono" if mono else "mixed" if mixed else "two_channel"
    settings = settings_of(context, asr__model=model, asr__policy=policy.value if policy else None)
    resolve_model(settings.asr.model, cache=settings.asr.model_cache)
    if mixed:
        check_voices(settings)
    full = Length(spread_seconds=spread_seconds, measure_seconds=measure_seconds)
    runs: list[LiveRun] = []
    with stopped_in_order(), work_folder(settings, is_kept=keep) as folder:
        bench = LiveBench(
            settings=settings,
            folder=folder,
            recordings=interleaved(recordings()),
            load=load,
            different_calls=compositions,
            sample_seconds=sample_seconds,
            is_kept=keep,
            say=note,
        )
        if calls is not None:
            runs.append(bench.run(calls, full, is_full=True))
        else:
            _find(bench, full, runs, first=first, limit=limit, step=step, p95_seconds=p95_seconds)
        if keep:
            note(f"kept: {folder}")
    accepted = next((run for run in reversed(runs) if run.is_full and run.passes(p95_seconds)), None)
    if as_json:
        print_json(_document(settings, runs, accepted, p95_seconds=p95_seconds, is_search=find, has_voices=mixed))
    else:
        shown = accepted if find else runs[0]
        for table in tables(shown) if shown else ():
            console.print(table)
        for line in (*(closing_lines(shown) if shown else ()), *(headline(run, p95_seconds) for run in runs)):
            console.print(line, markup=False, soft_wrap=True)
    if find and accepted is None:
        raise FailedError(f"no number of calls from {step} to {limit} passes a full run")
    if not find and not runs[0].counts:
        raise FailedError(f"the run does not count: {'; '.join(runs[0].problems)} (--keep keeps its logs)")


def _find(
    bench: LiveBench, full: Length, runs: list[LiveRun], *, first: int, limit: int, step: int, p95_seconds: float
) -> None:
    """Search the largest number of calls that passes, and tell of every run as it goes."""
    from pipeline.bench.live.report import headline
    from pipeline.bench.live.runs import Length
    from pipeline.bench.live.search import find_largest

    short = Length(
        spread_seconds=min(full.spread_seconds, SHORT_SPREAD_SECONDS),
        measure_seconds=min(full.measure_seconds, SHORT_MEASURE_SECONDS),
    )

    def passes(calls: int, is_full: bool) -> bool:
        run = bench.run(calls, full if is_full else short, is_full=is_full, abandon_seconds=ABANDON_SECONDS)
        runs.append(run)
        note(headline(run, p95_seconds))
        return run.passes(p95_seconds)

    find_largest(passes, first=first, limit=limit, step=step)


def _document(
    settings: Settings,
    runs: list[LiveRun],
    accepted: LiveRun | None,
    *,
    p95_seconds: float,
    is_search: bool,
    has_voices: bool,
) -> dict[str, Any]:
    """Return the document of ``--json``; ``found`` is there after a search alone."""
    from pipeline.bench.live.usage import describe_machine
    from pipeline.bench.system import own_settings
    from pipeline.runtime.broker.jars import KAFKA_VERSION

    changed = own_settings(settings, settings.work_folder, has_voices=has_voices).model_dump(
        mode="json", exclude_defaults=True, exclude={"runtime": {"work_folder"}}
    )
    return {
        "machine": describe_machine(),
        "kafka": KAFKA_VERSION,
        "settings": {section: values for section, values in changed.items() if values},
        "p95_limit_seconds": p95_seconds,
        **({"found": accepted.calls if accepted else None} if is_search else {}),
        "runs": [run.to_document() for run in runs],
    }
