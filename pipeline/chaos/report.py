"""The verdict of a run, for people and as a document."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from pipeline.chaos.delays import LATE_SECONDS
from pipeline.chaos.run import Outcome
from pipeline.chaos.verdict import percentile, total


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as JSON values; seconds are rounded to hundredths."""
    plan = outcome.plan
    done = [hit for hit in outcome.hits if not hit.problem]
    delays = [round(delay, 2) for delay in outcome.delays]
    return {
        "verdict": "clean" if outcome.is_clean else "failed",
        "seed": plan.seed,
        "calls": plan.calls,
        "minutes": round(plan.seconds / 60, 2),
        "faults": {
            "total": len(done),
            "by_kind": dict(sorted(Counter(hit.fault.kind for hit in done).items())),
            "not_carried_out": [f"{hit.fault}: {hit.problem}" for hit in outcome.hits if hit.problem],
        },
        "words": asdict(total(outcome.counts.values())),
        "incomplete_calls": outcome.incomplete,
        "different_calls": outcome.different,
        "unaccounted_calls": outcome.unaccounted,
        "recovery_seconds": {kind: _spread(values) for kind, values in sorted(outcome.recoveries.items())},
        "word_delay_seconds": {
            "p50": percentile(delays, 0.5),
            "p95": percentile(delays, 0.95),
            "p99": percentile(delays, 0.99),
            "max": max(delays, default=None),
            "late": sum(delay > LATE_SECONDS for delay in outcome.delays),
        },
        "poison": {"written": outcome.poisoned, "ignored": outcome.ignored},
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
        f"gaps {words['gaps']}, otherwise different {words['otherwise']}, incomplete calls {len(found['incomplete_calls'])}, "
        f"calls with samples not accounted for {len(found['unaccounted_calls'])}",
        f"worker restarts {found['worker_restarts']}, poison {found['poison']['written']}, of it ignored "
        f"{len(found['poison']['ignored'])}, dead letters {found['dead_letters']}",
    ]
    for kind, spread in found["recovery_seconds"].items():
        told.append(
            f"on again after {kind}: p50 {spread['p50']} s, p95 {spread['p95']} s, max {spread['max']} s, "
            f"of {spread['count']}; never seen {spread['never_seen']}"
        )
    delay = {name: "-" if value is None else value for name, value in found["word_delay_seconds"].items()}
    told.append(
        f"words committed after their end: p50 {delay['p50']} s, p95 {delay['p95']} s, p99 {delay['p99']} s, max {delay['max']} s; "
        f"{delay['late']} later than {LATE_SECONDS:g} s"
    )
    return [*told, *(f"not carried out: {text}" for text in faults["not_carried_out"])]


def _spread(values: list[float | None]) -> dict[str, Any]:
    seen = [value for value in values if value is not None]
    return {
        "p50": percentile(seen, 0.5),
        "p95": percentile(seen, 0.95),
        "max": max(seen, default=None),
        "count": len(seen),
        "never_seen": len(values) - len(seen),
    }
