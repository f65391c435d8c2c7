"""The figures of a run as one document, and as a table with a row per recording, per group, and for all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from pipeline.bench.diarization.figures import (
    Accuracy,
    Cost,
    Count,
    DiarizationErrors,
    RecordingFigures,
    overlap_share,
)
from pipeline.bench.diarization.running import Speakers
from pipeline.bench.diarization.scoring import COLLAR_SECONDS
from pipeline.core.speakers import UNKNOWN
from pipeline.runtime.latency import percentile

ALL = "all"
COLUMNS = (
    *("", "s", "speakers", "DER", "miss", "false", "conf", "DER\n±0.25", "words\nwrong", "label\nchanges"),
    *("latency s\np50 / p95", "real\ntime", "CPU-s\nper s"),
)
CAPTION = "DER, its parts, words wrong: %; speakers: found/true; label changes: of turns compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one pipeline made of some recordings."""

    accuracies: Sequence[Accuracy]
    cost: Cost

    @property
    def strict(self) -> DiarizationErrors:
        return sum((one.strict for one in self.accuracies), DiarizationErrors())

    @property
    def forgiving(self) -> DiarizationErrors:
        return sum((one.forgiving for one in self.accuracies), DiarizationErrors())

    @property
    def word_errors(self) -> Count:
        return sum((one.word_errors for one in self.accuracies), Count())

    @property
    def label_changes(self) -> Count:
        return sum((one.label_changes for one in self.accuracies), Count())

    @property
    def unit(self) -> str:
        """Return what word errors count."""
        kinds = {"words" if one.has_words else "slices" for one in self.accuracies}
        return kinds.pop() if len(kinds) == 1 else "words and slices"


def document(
    figures: Sequence[RecordingFigures],
    *,
    engine: str,
    speakers: Speakers,
    unreferenced: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the document of ``--json``. Rates of groups are of their summed seconds and counts, not means of rates."""
    return {
        "engine": engine,
        "min_speakers": speakers.least,
        "max_speakers": speakers.most,
        "collar_seconds": COLLAR_SECONDS,
        "processors": os.cpu_count(),
        "unreferenced": list(unreferenced),
        "recordings": [
            {
                "name": each.name,
                "group": each.group,
                "speakers": len(each.reference),
                "overlap_share": _rounded(overlap_share(each.reference)),
            }
            | _row([each])
            for each in figures
        ],
        "groups": {group: {"recordings": len(members)} | _row(members) for group, members in _groups(figures).items()},
        ALL: {"recordings": len(figures)} | _row(figures),
    }


def table(found: Mapping[str, Any]) -> Table:
    """Return the table of a document: recordings by name, a line per group, and all; diart's own pipeline below each where it ran."""
    result = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), caption=CAPTION, caption_justify="left")
    for name in COLUMNS:
        result.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in found["recordings"]:
        _add(result, row["name"], row, f"{row['found_speakers']}/{row['speakers']}")
    for group, row in found["groups"].items():
        result.add_section()
        _add(result, f"{group}-*" if row["recordings"] > 1 else group, row, _right(row))
    result.add_section()
    _add(result, ALL, found[ALL], _right(found[ALL]))
    return result


def _groups(figures: Sequence[RecordingFigures]) -> dict[str, list[RecordingFigures]]:
    found: dict[str, list[RecordingFigures]] = {}
    for each in figures:
        found.setdefault(each.group, []).append(each)
    return found


def _row(figures: Sequence[RecordingFigures]) -> dict[str, Any]:
    """Return what was measured of some recordings together."""
    part = _Part(accuracies=[each.accuracy for each in figures], cost=sum((each.cost for each in figures), Cost()))
    latencies = [latency for each in figures for latency in each.latencies]
    row = _accuracy(part) | {
        "right_number_of_speakers": sum(each.accuracy.speakers == len(each.reference) for each in figures),
        "latency_seconds": {
            "p50": _rounded(percentile(latencies, 0.5), 3),
            "p95": _rounded(percentile(latencies, 0.95), 3),
            "slices": len(latencies),
            "never_final": sum(each.never_final for each in figures),
        },
    }
    if len(figures) == 1:
        row["found_speakers"] = figures[0].accuracy.speakers
        row["unknown_seconds"] = round(sum(end - start for start, end in figures[0].output.get(UNKNOWN, ())), 3)
    compared = [each.baseline for each in figures if each.baseline is not None]
    row["baseline"] = None
    if compared:
        both = _Part(accuracies=[one.accuracy for one in compared], cost=sum((one.cost for one in compared), Cost()))
        row["baseline"] = _accuracy(both) | (
            {"found_speakers": compared[0].accuracy.speakers} if len(figures) == 1 else {}
        )
    return row


def _accuracy(part: _Part) -> dict[str, Any]:
    seconds = part.cost.audio_seconds
    changes = part.label_changes
    return {
        "audio_seconds": round(seconds, 3),
        "diarization_error": {"collar_0": _errors(part.strict), f"collar_{COLLAR_SECONDS:g}": _errors(part.forgiving)},
        "speaker_error": {
            "unit": part.unit,
            "count": part.word_errors.of,
            "errors": part.word_errors.errors,
            "rate": _rounded(part.word_errors.rate),
        },
        "label_changes": {"turns": changes.of, "changes": changes.errors, "rate": _rounded(changes.rate)},
        "real_time_factor": _rounded(part.cost.wall_seconds / seconds if seconds else None),
        "cpu_seconds_per_audio_second": _rounded(part.cost.cpu_seconds / seconds if seconds else None),
    }


def _errors(errors: DiarizationErrors) -> dict[str, Any]:
    return {
        "rate": _rounded(errors.rate),
        "missed_seconds": round(errors.missed, 3),
        "false_alarm_seconds": round(errors.false_alarm, 3),
        "confusion_seconds": round(errors.confusion, 3),
        "total_seconds": round(errors.total, 3),
    }


def _add(result: Table, name: str, row: Mapping[str, Any], speakers: str) -> None:
    latency = row["latency_seconds"]
    result.add_row(name, *_cells(row, speakers), f"{_number(latency['p50'])} / {_number(latency['p95'])}", *_costs(row))
    if (baseline := row["baseline"]) is not None:
        found = f"{baseline['found_speakers']}" if "found_speakers" in baseline else ""
        result.add_row("  diart", *_cells(baseline, found), "", *_costs(baseline), style="dim")


def _cells(row: Mapping[str, Any], speakers: str) -> Iterator[str]:
    strict, forgiving = row["diarization_error"].values()
    total = strict["total_seconds"]
    yield f"{row['audio_seconds']:.0f}"
    yield speakers
    yield _percent(strict["rate"])
    for name in ("missed_seconds", "false_alarm_seconds", "confusion_seconds"):
        yield _percent(strict[name] / total if total else None)
    yield _percent(forgiving["rate"])
    yield _percent(row["speaker_error"]["rate"])
    yield f"{row['label_changes']['changes']}/{row['label_changes']['turns']}"


def _costs(row: Mapping[str, Any]) -> tuple[str, str]:
    return _number(row["real_time_factor"], 3), _number(row["cpu_seconds_per_audio_second"], 3)


def _right(row: Mapping[str, Any]) -> str:
    return f"right {row['right_number_of_speakers']}/{row['recordings']}"


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f}"


def _number(value: float | None, places: int = 2) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _rounded(value: float | None, places: int = 5) -> float | None:
    return None if value is None else round(value, places)
