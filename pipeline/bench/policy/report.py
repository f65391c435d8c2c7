"""The figures of a run as one document, and as tables that set them beside their targets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from pipeline.bench.policy.figures import NO_ERRORS, RecordingFigures, StreamingFigures, total
from pipeline.bench.policy.live import LiveFigures
from pipeline.bench.policy.no_speech import Heard
from pipeline.bench.policy.plot import Point
from pipeline.bench.policy.variants import Variant
from pipeline.core.wer import WordErrors
from pipeline.runtime.latency import percentile

ALL = "all"
POINTS = "word_error_rate.{}.points_over_offline"
MAX_POINTS = {"alignatt": 0.5, "local_agreement": 0.3}  # of word error rate that streaming may add
MAX_UNAWARE_SECONDS = {"alignatt": {"p50": 0.7, "p95": 1.2}}


def document(
    figures: Sequence[RecordingFigures],
    variants: Sequence[Variant],
    sweep: Sequence[Variant],
    *,
    live: Mapping[str, LiveFigures],
    kill: Mapping[str, LiveFigures],
    no_speech: Mapping[str, Mapping[str, tuple[Heard, Heard]]] | None = None,
    unreferenced: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the document of ``--json``.

    ``figures`` have one streaming entry for each of ``variants``, then one for each of ``sweep``. ``live`` and ``kill`` are
    by policy: the undisturbed run in real time, and the one whose asr worker was killed. ``no_speech`` is by policy and sound:
    what was heard through the whole path, and with voice activity forced open.
    """
    rows = [_row(figures, index, variant) for index, variant in enumerate([*variants, *sweep])]
    policies = rows[: len(variants)]
    for row in policies:
        row["latency_aware_seconds"] = _percentiles(live[row["policy"]].latencies) if row["policy"] in live else None
        row["live"] = _shown(live.get(row["policy"]))
        row["kill"] = _shown(kill.get(row["policy"]))
        row["no_speech"] = _heard((no_speech or {}).get(row["policy"]))
    profile = next((one.profile for each in figures for one in each.streaming if one.profile), None)
    return {
        "model": profile.revision if profile else None,
        "recordings": len(figures),
        "unreferenced": list(unreferenced),
        "audio_seconds": round(_audio_seconds(figures), 3),
        "words": sum(each.offline.words for each in figures),
        "timed_words": sum(len(each.truth) for each in figures),
        "processors": os.cpu_count(),
        "offline": {
            kind: _rate(sum((each.offline for each in chosen), NO_ERRORS)) for kind, chosen in _by_kind(figures)
        },
        "policies": policies,
        "sweep": rows[len(variants) :],
        "targets": [target for row in policies for target in _targets(row)],
    }


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the tables of a document: the policies beside each other, and the sweep where there is one."""
    table = Table("", "offline", *(row["policy"] for row in found["policies"]), caption="in brackets: at most")
    for name, offline, cells in _lines(found):
        table.add_row(name, offline, *cells)
    yield table
    if found["sweep"]:
        kinds = list(found["offline"])
        names = ("policy", "step, parameter", *(f"{kind} %" for kind in kinds), "p50 s", "p95 s", "CPU-s/s")
        sweep = Table(
            *names, box=None, pad_edge=False, title="word error rate and unaware latency", title_justify="left"
        )
        for row in found["sweep"]:
            unaware = row["latency_unaware_seconds"]
            sweep.add_row(
                row["policy"],
                f"{_seconds(row['step_seconds'])}, {parameter(row)}",
                *(f"{100 * row['word_error_rate'][kind]['word_error_rate']:.2f}" for kind in kinds),
                *(_seconds(unaware[share]).removesuffix(" s") for share in ("p50", "p95")),
                f"{row['cpu_seconds_per_audio_second']:.4f}",
            )
        yield sweep


def points(found: Mapping[str, Any]) -> tuple[Point, ...]:
    """Return the points of the plot: the sweep, or the policies as set where there was none. Without latencies there are none."""
    return tuple(
        Point(
            series=f"{row['policy']}, step {row['step_seconds']:g} s",
            label=str(row["frame_threshold"] if row["policy"] == "alignatt" else row["agreement"]),
            latency_seconds=row["latency_unaware_seconds"]["p95"],
            word_error_rate=row["word_error_rate"][ALL]["word_error_rate"],
        )
        for row in found["sweep"] or found["policies"]
        if row["latency_unaware_seconds"]["p95"] is not None
    )


def parameter(row: Mapping[str, Any]) -> str:
    """Return the parameter that a policy turns on, as people read it."""
    return f"{row['frame_threshold']} frames" if row["policy"] == "alignatt" else f"n = {row['agreement']}"


def _row(figures: Sequence[RecordingFigures], index: int, variant: Variant) -> dict[str, Any]:
    """Return everything measured of one way to stream."""
    together = total(each.streaming[index] for each in figures)
    profile = together.profile
    is_alignatt = variant.policy == "alignatt"
    seconds = _audio_seconds(figures)
    return {
        "policy": variant.policy,
        "step_seconds": profile.step_seconds if profile else variant.step_seconds,
        "frame_threshold": profile.frame_threshold if profile and is_alignatt else None,
        "agreement": profile.agreement if profile and not is_alignatt else None,
        "word_error_rate": {
            kind: _against(
                total(each.streaming[index] for each in chosen), sum((each.offline for each in chosen), NO_ERRORS)
            )
            for kind, chosen in _by_kind(figures)
        },
        "latency_unaware_seconds": _percentiles(together.latencies),
        "latency_fed_seconds": _percentiles(together.fed_latencies),
        "committed_words": together.shown,
        "retracted_words": together.retracted,
        "tail_words": together.tail_words,
        "erased_tail_share": round(together.erased / together.tail_words, 4) if together.tail_words else None,
        "degraded": dict(sorted(together.degraded.items())),
        "passes": together.passes,
        "tokens": together.tokens,
        "cpu_seconds_per_audio_second": round(together.cpu_seconds / seconds, 5) if seconds else None,
    }


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the rows of the first table: name, offline, and a cell for each policy with its target where there is one."""
    rows = found["policies"]
    beside = {(target["policy"], target["figure"]): _beside(target) for target in found["targets"]}

    def line(name: str, cells: list[str], *, figure: str = "", offline: str = "") -> tuple[str, str, list[str]]:
        marked = [cell + beside.get((row["policy"], figure), "") for cell, row in zip(cells, rows, strict=True)]
        return name, offline, marked

    yield line("step, parameter", [f"{_seconds(row['step_seconds'])}, {parameter(row)}" for row in rows])
    for kind, offline in found["offline"].items():
        rates = [row["word_error_rate"][kind] for row in rows]
        percents = [_percent(rate["word_error_rate"]) for rate in rates]
        yield line(f"WER {kind}", percents, offline=_percent(offline["word_error_rate"]))
        points = [f"{rate['points_over_offline']:+.2f}" for rate in rates]
        yield line(f"points more, {kind}", points, figure=POINTS.format(kind))
    for name in ("unaware", "fed", "aware"):
        measured = [row[f"latency_{name}_seconds"] for row in rows]
        for key in ("p50", "p95", "p99", "words") if any(measured) else ():
            cells = [
                "-" if one is None else str(one[key]) if key == "words" else _seconds(one[key]) for one in measured
            ]
            yield line(f"{name} latency {key}", cells, figure=f"latency_{name}_seconds.{key}")
    yield line("committed words", [str(row["committed_words"]) for row in rows])
    yield line("retracted words", [str(row["retracted_words"]) for row in rows], figure="retracted_words")
    for reason in sorted({reason for row in rows for reason in row["degraded"]}):
        yield line(reason.replace("rejected_text:", "refused: "), [str(row["degraded"].get(reason, 0)) for row in rows])
    yield line("tail words erased", [_percent(row["erased_tail_share"]) for row in rows])
    yield line("passes", [str(row["passes"]) for row in rows])
    yield line("tokens", [str(row["tokens"]) for row in rows])
    yield line("CPU s per s", [f"{row['cpu_seconds_per_audio_second']:.4f}" for row in rows])
    for name in ("live", "kill"):
        if any(row[name] for row in rows):
            cells = [_changed(row[name]) for row in rows]
            yield line(f"shown, not stored: {name}", cells, figure=f"{name}.changed_words")
    for name, key in (("whole path", "words"), ("vad forced open", "words_forced_open")):
        if any(row["no_speech"] for row in rows):
            cells = [str(row["no_speech"][key]) if row["no_speech"] else "-" for row in rows]
            yield line(f"words in no speech, {name}", cells, figure=f"no_speech.{key}")


def _targets(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a policy should reach with the shipped model on the shipped calls; figures are paths into its row."""
    policy = row["policy"]
    for kind, rate in row["word_error_rate"].items():
        if kind != ALL or len(row["word_error_rate"]) == 1:
            yield _target(POINTS.format(kind), policy, rate["points_over_offline"], MAX_POINTS[policy])
    for share, maximum in MAX_UNAWARE_SECONDS.get(policy, {}).items():
        if (value := row["latency_unaware_seconds"][share]) is not None:
            yield _target(f"latency_unaware_seconds.{share}", policy, value, maximum)
    yield _target("retracted_words", policy, row["retracted_words"], 0)
    for name in ("live", "kill"):
        if row[name] is not None:
            yield _target(f"{name}.changed_words", policy, row[name]["changed_words"], 0)
    for key in ("words", "words_forced_open") if row["no_speech"] else ():
        yield _target(f"no_speech.{key}", policy, row["no_speech"][key], 0)


def _heard(sounds: Mapping[str, tuple[Heard, Heard]] | None) -> dict[str, Any] | None:
    if sounds is None:
        return None
    return {
        "words": sum(whole.words for whole, _ in sounds.values()),
        "words_forced_open": sum(forced.words for _, forced in sounds.values()),
        "sounds": {
            name: {
                "words": whole.words,
                "words_forced_open": forced.words,
                "refusals_forced_open": dict(forced.refusals),
            }
            for name, (whole, forced) in sounds.items()
        },
    }


def _target(figure: str, policy: str, value: float, maximum: float) -> dict[str, Any]:
    return {"figure": figure, "policy": policy, "value": value, "maximum": maximum, "is_met": value <= maximum}


def _beside(target: Mapping[str, Any]) -> str:
    return f" ({target['maximum']:g} {'met' if target['is_met'] else 'missed'})"


def _by_kind(figures: Sequence[RecordingFigures]) -> list[tuple[str, list[RecordingFigures]]]:
    """Return the recordings of each kind, where the references name several, and all together."""
    kinds = sorted({each.kind for each in figures}, reverse=True)
    named = [(kind or "other", [each for each in figures if each.kind == kind]) for kind in kinds]
    return [*(named if len(kinds) > 1 else []), (ALL, list(figures))]


def _against(streaming: StreamingFigures, offline: WordErrors) -> dict[str, Any]:
    rate = _rate(streaming.errors)
    return rate | {"points_over_offline": round(100 * (streaming.errors.rate - offline.rate), 3)}


def _rate(errors: WordErrors) -> dict[str, Any]:
    return {"words": errors.words, "errors": errors.errors, "word_error_rate": round(errors.rate, 5)}


def _percentiles(latencies: Sequence[float]) -> dict[str, Any]:
    found = {name: percentile(latencies, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
    rounded = {name: None if value is None else round(value, 3) for name, value in found.items()}
    return rounded | {"words": len(latencies)}


def _shown(figures: LiveFigures | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "calls": figures.calls,
        "committed_words": figures.shown,
        "changed_words": figures.changed,
        "asr_restarts": figures.restarts,
    }


def _audio_seconds(figures: Sequence[RecordingFigures]) -> float:
    return sum(each.audio_seconds for each in figures)


def _changed(run: Mapping[str, Any] | None) -> str:
    return "-" if run is None else f"{run['changed_words']} of {run['committed_words']}"


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.2f} %"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
