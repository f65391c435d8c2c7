"""One call in a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.flow import CallFlow


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Stands among a call's records for its end, which was deleted before it was read: the parameters of `CallFlow.end_unheard`."""

    offset: int
    end_samples: Mapping[int, int]
    reason: str
    epoch: int


@dataclass(slots=True)
class ServedCall:
    """A call in a worker: its flow, and the records that wait for it or are in work."""

    call_id: str
    partition: int
    flow: CallFlow[Any, Any, Any]
    inbox: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    inside: list[int] = field(default_factory=list)  # sizes of records that take room, in order
    task: asyncio.Task[None] | None = None
