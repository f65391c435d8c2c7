"""What a call loses with a record that cannot be used: what its lanes give up, and where it is said."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, cast

from pipeline.core.contract import AbandoningLogic, Draft, LaneLogic, R, S, Step, W
from pipeline.core.effects import Effects
from pipeline.core.entries import LaneEntry
from pipeline.core.errors import PoisonError
from pipeline.core.ids import CALL_CHANNEL
from pipeline.core.passing import FARTHEST_SECONDS, LARGEST
from schemas.records import Degraded


@dataclass(frozen=True, slots=True)
class Way(Generic[S, W, R]):
    """How records are taken in: by ``plan`` and ``apply``, and with ``losses`` said of the record itself."""

    plan: Callable[[S, Any], Step[S, W]]
    apply: Callable[[S, W, R], Step[S, W]]
    losses: tuple[Draft, ...] = ()

    def take(self, state: S, record: Any, outputs: list[Draft]) -> Generator[W, R, S]:
        """Take a record in: yields work for the engine, adds to ``outputs``, returns the new state. Raises PoisonError."""
        step = self.plan(state, record)
        outputs += step.outputs
        while step.work is not None:
            result = yield step.work
            step = self.apply(step.state, step.work, result)
            outputs += step.outputs
        return step.state


def given_up(logic: LaneLogic[S, W, R], state: S, record: Any) -> Step[S, W]:
    """Return the step of a lane that takes in ``record`` and must not ask the engine. Raises PoisonError where there is none.

    A control record for which nothing has to be inferred is harmless; what a channel's own record has done to the process may come
    again with its samples.
    """
    if record.channel == CALL_CHANNEL:
        step = logic.plan(state, record)
        if step.work is None:
            return step
    if not hasattr(logic, "abandon"):
        raise PoisonError(f"a {record.kind} record cannot be taken in without being processed")
    return cast("AbandoningLogic[S, W, R]", logic).abandon(state, record)


def finished(steps: Generator[Any, Any, Effects]) -> Effects:
    """Return what steps come to that ask the engine nothing."""
    try:
        next(steps)
    except StopIteration as stop:
        effects: Effects = stop.value
        return effects
    raise AssertionError("the engine was asked about a record that it does not survive")


def place_of(record: Any, lanes: Mapping[int, LaneEntry[S]]) -> tuple[LaneEntry[S], int]:
    """Return the lane that says that ``record`` was rejected, and the sample it names.

    That is the record's own lane and start; the control lane and where it stands, of a record that could not be decoded (None) or
    whose lane is not known.
    """
    control = lanes[CALL_CHANNEL]
    lane = None if record is None else lanes.get(record.channel)
    if lane is None or record.sample_rate_hz != lane.rate or not 0 <= record.start_sample < LARGEST:
        return control, control.sample
    is_near = record.start_sample <= lane.sample + FARTHEST_SECONDS * lane.rate
    return lane, record.start_sample if is_near else lane.sample


def degraded(body: Degraded, start_sample: int) -> Draft:
    """Return the draft that marks the call."""
    return Draft(kind="degraded", start_sample=start_sample, body={"degraded": body})
