"""One call in one stage, in this process: what a measurement runs and looks into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import stages
from pipeline.core.contract import Engine, LaneLogic
from pipeline.core.flow import CallFlow


@dataclass(slots=True)
class StageRun:
    """One call in one stage."""

    flow: CallFlow[Any, Any, Any]
    engine: Engine[Any, Any] | None
    offset: int = 0

    def feed(self, record: Any) -> list[Any]:
        """Return the outputs of the stage for one record. Raises PoisonError when the record cannot be used."""
        self.offset += 1
        steps = self.flow.feed(record, self.offset)
        try:
            work = next(steps)
            while True:
                if self.engine is None:
                    raise AssertionError("a stage asks for inference and has no engine")
                work = steps.send(self.engine.infer([work])[0])
        except StopIteration as stop:
            outputs: list[Any] = stop.value.outputs
            return outputs


def run_of(stage: str, logic: LaneLogic[Any, Any, Any], engine: Engine[Any, Any] | None, call_id: str) -> StageRun:
    """Return one call in one stage, at its beginning."""
    spec = stages.spec(stage)
    flow = CallFlow(call_id=call_id, logic=logic, writes=spec.writes, writers=spec.writers, stage=stage)
    return StageRun(flow, engine)
