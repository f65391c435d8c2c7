"""The verdict of a run, for people and as a document."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from pipeline.chaos.run import Outcome
from pipeline.chaos.verdict import percentile, total


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as JSON values; seconds are rounded to hundredths."""
    plan = outcome.plan
    return {
        "verdict": "clean" if outcome.is_clean else "failed",
        "seed": plan.seed,
        "calls": plan.calls,
        "minutes": round(plan.seconds / 60, 2),
        "faults": {
            "total": len(outcome.faults),
            "by_kind": dict(sorted(Counter(fault.kind for fault, _ in outcome.faults).items())),
            "not_carried_out": [f"{fault}: {problem}" for fault, problem in outcome.faults if problem],
        },
        "words": asdict(total(outcome.counts.values())),
        "incomplete_calls": outcome.incomplete,
        "different_calls": sorted(call_id for call_id, counts in outcome.counts.items() if not counts.is_clean),
        "recovery_seconds": {kind: _spread(values) for kind, values in sorted(outcome.recoveries.items())},
        "dead_letters": outcome.dead_letters,
        "worker_restarts": outcome.restarts,
        "wall_seconds": round(outcome.seconds, 1),
    }


def lines(outcome: Outcome) -> list[str]:
    """Return the verdict as lines for people."""
    found = document(outcome)
    words, faults = found["words"], found["faults"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in faults["by_kind"].items())
    told = [
        f"{found['verdict']}: {words['words']} words of {found['calls']} calls, {faults['total']} faults ({kinds}), seed {found['seed']}",
        f"lost {words['lost']}, twice {words['twice']}, changed {words['changed']}, invented {words['invented']}, "
        f"gaps {words['gaps']}, incomplete calls {len(found['incomplete_calls'])}",
        f"worker restarts {found['worker_restarts']}, dead letters {found['dead_letters']}",
    ]
    for kind, spread in found["recovery_seconds"].items():
        told.append(f"on again after {kind}: p50 {spread['p50']} s, p95 {spread['p95']} s, max {spread['max']} s")
    return [*told, *(f"not carried out: {text}" for text in faults["not_carried_out"])]


def _spread(values: list[float]) -> dict[str, Any]:
    return {
        "p50": percentile(values, 0.5),
        "p95": percentile(values, 0.95),
        "max": max(values, default=None),
        "count": len(values),
    }
