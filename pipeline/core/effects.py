"""What a step of a flow asks of its runner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.core.feeds import Place
from schemas.records import LaneState


@dataclass(slots=True, kw_only=True)
class Effects:
    """What a step of a flow asks of its runner, in the order of the guarantee.

    ``standing`` is set when it has changed where the call stands: its state (interrupted, live, complete), and where a feed goes on.
    ``is_heard`` tells a record of the feed that holds the call, or of a stage, repeats included.
    """

    outputs: list[Any] = field(default_factory=list)
    standing: tuple[str, Place] | None = None
    states: list[LaneState] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    repeats: int = 0
    is_heard: bool = False

    def drop(self, offset: int, *, is_repeat: bool = True) -> None:
        """Release a record that changes nothing; one that came before, or of a feed that has lost the call, counts as a repeat."""
        self.released.append(offset)
        self.repeats += is_repeat
