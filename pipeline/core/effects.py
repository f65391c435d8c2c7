"""What a step of a flow asks of its runner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from schemas.records import LaneState


@dataclass(slots=True, kw_only=True)
class Effects:
    """What a step of a flow asks of its runner, in the order of the guarantee.

    ``standing`` is set when it has changed where the call stands (interrupted, live, complete): that, and the next sequence a feed
    goes on with, by channel.
    """

    outputs: list[Any] = field(default_factory=list)
    standing: tuple[str, dict[int, int]] | None = None
    states: list[LaneState] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
