"""Which fault hits whom and when: pure, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["kill", "term", "stop", "broker", "store", "poison", "feed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WORKER_KINDS: tuple[Kind, ...] = ("kill", "term", "stop")
POISONED = ("call.audio", "call.speech", "call.annotations", "call.segments")
POISONS = ("no_avro", "unknown_schema", "wrong_channel", "absurd_position", "five_megabytes")
QUIET_SECONDS = 6.0  # at both ends of a run: calls are under way before the first fault, and after the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, ``at_seconds`` after the feed began. ``target`` is a worker, a topic, a call or what is done to the broker."""

    at_seconds: float
    kind: Kind
    target: str
    detail: str = ""
    lasts_seconds: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.lasts_seconds:.1f} s" if self.lasts_seconds else ""
        return f"{self.kind} {self.target}{' ' + self.detail if self.detail else ''}{lasts}"


def schedule(
    *,
    seed: int,
    seconds: float,
    kinds: Sequence[Kind],
    count: int,
    workers: Sequence[str],
    calls: Sequence[str],
    session_seconds: float,
) -> tuple[Fault, ...]:
    """Return ``count`` faults (at least one of each kind) in the order of time, spread over ``seconds`` of a run.

    ``workers`` are names of processes, ``calls`` ids of calls; a stopped worker stands still for longer than its session.
    """
    chance = random.Random(seed)
    count = max(count, len(kinds))
    order: list[Kind] = []
    while len(order) < count:
        order += chance.sample(list(kinds), len(kinds))
    room = (seconds - 2 * QUIET_SECONDS) / count
    faults = []
    for number, kind in enumerate(order[:count]):
        at = QUIET_SECONDS + (number + chance.random()) * room
        faults.append(_fault(chance, kind, round(at, 2), workers, calls, session_seconds))
    return tuple(faults)


def _fault(
    chance: random.Random, kind: Kind, at: float, workers: Sequence[str], calls: Sequence[str], session_seconds: float
) -> Fault:
    if kind in WORKER_KINDS:
        lasts = session_seconds * chance.uniform(1.2, 1.6) if kind == "stop" else 0.0
        return Fault(at_seconds=at, kind=kind, target=chance.choice(list(workers)), lasts_seconds=round(lasts, 1))
    if kind == "broker":
        how = chance.choice(("killed", "stopped"))
        return Fault(at_seconds=at, kind=kind, target=how, lasts_seconds=round(chance.uniform(2.0, 8.0), 1))
    if kind == "store":
        return Fault(at_seconds=at, kind=kind, target="locked", lasts_seconds=round(chance.uniform(5.0, 15.0), 1))
    if kind == "poison":
        topic = chance.choice(POISONED)
        detail = f"{chance.choice(POISONS)} {chance.choice(list(calls))}"
        return Fault(at_seconds=at, kind=kind, target=topic, detail=detail)
    return Fault(
        at_seconds=at, kind=kind, target=chance.choice(list(calls)), lasts_seconds=round(chance.uniform(0.5, 3.0), 1)
    )
