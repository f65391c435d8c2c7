"""The whole pipeline in one process, without Kafka: the debugger, the bug report, and the reference of every distributed run.

Same logic, same engines, same `CallFlow` as the workers; records pass from stage to stage as values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline import stages
from pipeline.core.contract import Engine, StageSpec
from pipeline.core.errors import PoisonError
from pipeline.core.flow import CallFlow
from schemas.records import CallAnnotation, CallAudio, CallSegment

Spec = StageSpec[Any, Any, Any]


@dataclass(slots=True)
class _Stage:
    """One stage with the flows of its calls."""

    spec: Spec
    logic: Any
    settings: Any
    engine: Engine[Any, Any] | None = None
    flows: dict[str, CallFlow[Any, Any, Any]] = field(default_factory=dict)
    offset: int = 0

    def loaded(self) -> Engine[Any, Any]:
        """Return the engine."""
        self.engine = self.engine or self.spec.make_engine(self.settings)
        if self.engine is None:
            raise AssertionError(f"stage {self.spec.name} asks for inference and has no engine")
        return self.engine

    def feed(self, record: Any) -> list[Any]:
        """Return the outputs of the stage for one record."""
        flow = self.flows.get(record.call_id)
        if flow is None:
            flow = CallFlow(
                call_id=record.call_id,
                logic=self.logic,
                writes=self.spec.writes,
                writers=self.spec.writers,
                stage=self.spec.name,
            )
            self.flows[record.call_id] = flow
        self.offset += 1
        steps = flow.feed(record, self.offset)
        try:
            work = next(steps)
            while True:
                work = steps.send(self.loaded().infer([work])[0])
        except StopIteration as stop:
            if flow.is_ended:
                del self.flows[record.call_id]
            outputs: list[Any] = stop.value.outputs
            return outputs
        except PoisonError as error:
            reason = type(error).__name__
            return flow.reject(self.offset, reason=reason, topic=self.spec.input, partition=0, record=record).outputs


class Replay:
    """The stages of one deployment, ready to run. Raises NotReadyError when a model is missing.

    An engine that most calls do not ask anything is loaded when one does.
    """

    def __init__(self, settings: Any, engines: dict[str, Engine[Any, Any]] | None = None) -> None:
        self._stages = {}
        for name in stages.STREAM_STAGES:
            spec = stages.spec(name)
            stage = self._stages[name] = _Stage(spec, spec.make_logic(settings), settings)
            if engines and name in engines:
                stage.engine = engines[name]
            elif not spec.is_rarely_asked:
                stage.engine = spec.make_engine(settings)

    def run(self, records: Iterable[CallAudio]) -> Iterator[CallAnnotation | CallSegment]:
        """Yield what the topics call.annotations and call.segments would hold, in order."""
        for record in records:
            for speech in self._stages["vad"].feed(record):
                for consumer in ("asr", "diarize"):
                    for annotation in self._stages[consumer].feed(speech):
                        yield annotation
                        yield from self._stages["assemble"].feed(annotation)

    def segments(self, records: Iterable[CallAudio]) -> Iterator[CallSegment]:
        """Yield the records of call.segments."""
        return (record for record in self.run(records) if isinstance(record, CallSegment))
