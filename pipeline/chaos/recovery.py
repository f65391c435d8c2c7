"""How long what a fault hit stood still: from the fault to the next step of its stage in the partitions that were hit. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.chaos.schedule import WORKER_KINDS, Fault
from pipeline.stages import STAGES

ON_ITS_WAY_SECONDS = 1.0  # what was sent before the fault, or committed before it and seen later, is no sign of life

Place = tuple[str, int]  # stage, partition


@dataclass(slots=True, kw_only=True)
class Hit:
    """One fault that was carried out. Moments are seconds of the wall clock.

    ``partitions`` are those with live calls, for a worker only those that it owned. ``down_at`` is when what was hit had stopped
    working: None while it has not. ``problem`` says why the fault was not carried out.
    """

    fault: Fault
    at: float
    partitions: Collection[int] = field(default_factory=frozenset)
    down_at: float | None = None
    problem: str = ""


def stages_hit(fault: Fault) -> tuple[str, ...]:
    """Return the stages that a fault keeps from working."""
    if fault.kind in WORKER_KINDS:
        return (fault.target.rpartition("-")[0],)
    return {"broker": STAGES, "store": ("sink",)}.get(fault.kind, ())


def recoveries(hit: Hit, moves: Mapping[Place, Sequence[float]]) -> list[float | None]:
    """Return for every stage and partition that was hit the seconds until it got on; None where it was never seen to.

    ``moves`` are the moments of steps by stage and partition.
    """
    if hit.down_at is None or hit.problem:
        return []
    earliest = hit.down_at + ON_ITS_WAY_SECONDS
    found: list[float | None] = []
    for stage in stages_hit(hit.fault):
        for partition in sorted(hit.partitions):
            later = [moment for moment in moves.get((stage, partition), ()) if moment > earliest]
            found.append(round(min(later) - hit.at, 2) if later else None)
    return found


def by_kind(hits: Iterable[Hit], moves: Mapping[Place, Sequence[float]]) -> dict[str, list[float | None]]:
    """Return the recoveries of all hits by the kind of their fault."""
    found: dict[str, list[float | None]] = {}
    for hit in hits:
        for seconds in recoveries(hit, moves):
            found.setdefault(hit.fault.kind, []).append(seconds)
    return found
