"""Which records a stage processes alone, because an earlier process has ended somewhere among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faust.types import TP

from pipeline.runtime.attempts import Start
from pipeline.runtime.ledger import Ledger
from pipeline.runtime.positions import Positions


class Care:
    """Where reading started in a worker's partitions, and which record of them is in hand; the broker remembers both."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self.starts: dict[int, Start] = {}
        self.is_on = False  # a commit names a record that is processed alone

    async def begin(self, max_deaths: int) -> None:
        """Look up where reading starts."""
        self.starts = await self._positions.starts(max_deaths)
        self.is_on = False

    def is_alone(self, partition: int, offset: int) -> bool:
        """Return whether the record is processed alone."""
        start = self.starts.get(partition)
        return start is not None and start.is_careful(offset)

    def start_of(self, partition: int) -> Start | None:
        """Return where reading of the partition started; None before it has."""
        return self.starts.get(partition)

    def remembered(self, tp: TP, offset: int) -> str:
        """Return the metadata of a commit."""
        start = self.starts.get(tp.partition)
        return "" if start is None else start.metadata(offset)

    def heads(self, ledgers: Mapping[int, Ledger]) -> dict[int, int]:
        """Return the offset that may be committed of every partition."""
        heads = {partition: start.offset for partition, start in self.starts.items()}
        return heads | {number: one.head for number, one in ledgers.items() if one.head is not None}

    async def take_in_hand(self, record: Any, ledgers: Mapping[int, Ledger]) -> bool:
        """Have the broker remember which record is processed now: it may end the process. None: what was in hand has not.

        Returns False when the partitions are on their way to somebody else.
        """
        named = {partition: start for partition, start in self.starts.items() if start.in_hand is not None}
        for start in named.values():
            start.in_hand = None
        self.is_on = bool(record)
        if record:
            named[record.partition] = start = self.starts[record.partition]
            start.in_hand = record.offset
        return await self._positions.remember(named, self.heads(ledgers))
