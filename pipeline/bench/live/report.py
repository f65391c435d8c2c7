"""Runs as tables for people; the documents of ``--json`` are `LiveRun.to_document`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from pipeline.bench.live.latency import Percentiles, SpeakerLatency
from pipeline.bench.live.result import SPEAKER_SECONDS, Figures, LiveRun

MEGABYTE = 1024 * 1024


def headline(run: LiveRun, p95_seconds: float) -> str:
    """Return a run in one line."""
    kind = run.load.replace("_", "-")
    length = "full" if run.is_full else "short"
    if run.figures is None:
        return f"{run.calls} {kind} calls ({length}): {'; '.join(run.problems)}"
    latency, usage = run.figures.true_ends, run.figures.usage
    speakers, known = run.figures.speakers, ""
    verdict = f"p95 {'<=' if run.is_prompt(p95_seconds) else 'not <='} {p95_seconds:g} s"
    if speakers is not None:
        known = f"speakers known after that p95 {_seconds(speakers.after_commit.p95)}, "
        verdict += f", of speakers {'<=' if run.has_prompt_speakers else 'not <='} {SPEAKER_SECONDS:g} s"
    if run.problems:
        verdict = f"does not count: {'; '.join(run.problems)}"
    return (
        f"{run.calls} {kind} calls ({length}): commit latency p50 {_seconds(latency.p50)}, p95 {_seconds(latency.p95)}, "
        f"{known}{usage.own_cores:.2f} cores; {verdict}"
    )


def tables(run: LiveRun) -> Iterator[Table]:
    """Yield the tables of a run."""
    if run.figures is None:
        return
    yield _latencies(run.figures)
    yield _stages(run.figures)
    yield _processes(run.figures)
    yield _topics(run.figures)


def closing_lines(run: LiveRun) -> list[str]:
    """Return what the tables do not hold."""
    if run.figures is None:
        return []
    figures, usage = run.figures, run.figures.usage
    rate = "-" if run.word_error_rate is None else f"{100 * run.word_error_rate:.1f} %"
    compared = (
        f"{run.compared - len(run.different)} of {run.compared} equal to their replay"
        if run.is_full
        else "not compared"
    )
    return [
        f"speech in {100 * run.speech_share:.0f} % of call time; word error rate {rate}; transcripts: {run.complete} complete, "
        f"{compared}",
        f"recogniser: {', '.join(run.recognisers) or '-'}",
        *([_speakers(run, figures.speakers)] if figures.speakers is not None else ()),
        f"machine: {usage.busy_cores:.2f} cores busy, of these {usage.own_cores:.2f} ours and {usage.foreign_cores:.2f} foreign; "
        f"{usage.stolen_cores:.2f} stolen; window {usage.seconds:.0f} s",
        f"feeder: {figures.feed.records} records, behind its schedule p50 {1000 * figures.feed.late_p50_seconds:.1f} ms, "
        f"p99 {1000 * figures.feed.late_p99_seconds:.1f} ms, max {1000 * figures.feed.late_max_seconds:.1f} ms",
    ]


def _speakers(run: LiveRun, speakers: SpeakerLatency) -> str:
    after = speakers.after_commit
    share = "-" if run.named_share is None else f"{100 * run.named_share:.1f} %"
    return (
        f"speaker known after its word was committed: p50 {_seconds(after.p50)}, p95 {_seconds(after.p95)}, max "
        f"{_seconds(after.max)} s (target p95 <= {SPEAKER_SECONDS:g} s: {'met' if run.has_prompt_speakers else 'not met'}), "
        f"of {after.count} of {after.count + speakers.never} words; words with a speaker {share}"
    )


def _latencies(figures: Figures) -> Table:
    table = Table(
        "seconds",
        "count",
        "p50",
        "p95",
        "p99",
        "max",
        title="From capture to the broker's timestamp",
        title_justify="left",
    )
    rows: Sequence[tuple[str, Percentiles]] = (
        (f"word committed, after its true end ({figures.words_spoken} spoken)", figures.true_ends),
        ("word committed, after the end the recogniser gave", figures.own_ends),
        ("speech on call.speech", figures.speech_written),
        ("segment on call.segments, after its end", figures.segments_written),
    )
    for name, each in rows:
        table.add_row(name, str(each.count), *(_seconds(value) for value in (each.p50, each.p95, each.p99, each.max)))
    return table


def _stages(figures: Figures) -> Table:
    table = Table(
        "stage", "p50 s", "max s", "max records", title="Age of the oldest record not committed", title_justify="left"
    )
    for stage, lag in figures.lags.items():
        table.add_row(stage, f"{lag.p50_seconds:.2f}", f"{lag.max_seconds:.2f}", str(lag.max_records))
    return table


def _processes(figures: Figures) -> Table:
    table = Table(
        "process", "cores", "RSS MB", "at the end", "USS MB", "at the end", title="Processes", title_justify="left"
    )
    for process in figures.usage.processes:
        sizes = (f"{size / MEGABYTE:.0f}" for size in (*process.rss_bytes, *process.uss_bytes))
        table.add_row(process.name, f"{process.cores:.3f}", *sizes)
    return table


def _topics(figures: Figures) -> Table:
    table = Table("topic", "records/s", "kB/s", title="Topics", title_justify="left")
    for name, rate in figures.topics.items():
        table.add_row(name, f"{rate.records_per_second:.1f}", f"{rate.bytes_per_second / 1000:.1f}")
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
