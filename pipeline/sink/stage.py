"""The sink wired up: records of ``call.segments`` become rows of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from pipeline.core.ids import CALL_CHANNEL
from pipeline.sink.deleted import is_marked, made_up_start, missing
from pipeline.sink.logic import plan
from pipeline.sink.stores.base import Store
from schemas.records import CallSegment, Started

MAX_NAMED = 10_000  # calls that are not looked for again


class Lost(Protocol):
    """What was deleted before it was stored, as `pipeline.runtime.deletions.Deletions`."""

    def may_lack(self, call_id: str) -> bool:
        """Return whether records of the call may have been deleted before they were read, in this process or an earlier one."""

    def has_lost(self, call_id: str) -> bool:
        """Return whether this process has found that records were deleted where the call's are."""

    def started(self, call_id: str) -> Started | None:
        """Return how a call has started whose start was deleted; None where nobody knows. Raises NotReadyError."""


class Sink:
    """Writes batches of records to a store that is opened when first needed.

    >>> sink = Sink(lambda: open_store("", work_folder))  # doctest: +SKIP
    >>> consume(settings, write=sink.write)  # doctest: +SKIP
    """

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._store: Store | None = None
        self._named: set[str] = set()  # calls whose channels are stored

    def write(self, records: Sequence[CallSegment], lost: Lost | None = None) -> None:
        """Write ``records`` in one transaction; again after an error gives the same rows.

        Of a call that has ``lost`` records the end and what is missing make a transaction of their own.
        Raises NotReadyError while the store is away, PoisonError when it can never take these records.
        """
        self.open()
        assert self._store is not None
        late, named = ([], set()) if lost is None else self._late_starts(records, lost)
        lacking = set() if lost is None else self._lacking(records, lost) | {start.call_id for start in late}
        ends = {id(record): record for record in records if record.call_id in lacking and _is_end(record)}
        self._store.write(plan([*late, *(record for record in records if id(record) not in ends)]))
        for end in ends.values():
            self._write_end(end)
        if len(self._named) > MAX_NAMED:
            self._named.clear()
        self._named |= named

    def open(self) -> None:
        """Open the store now, so that a worker that cannot reach it says so at its start. Raises NotReadyError."""
        if self._store is None:
            self._store = self._open_store()

    def close(self) -> None:
        """Release the store."""
        if self._store is not None:
            self._store.close()
        self._store = None

    # -- what was deleted --------------------------------------------------------------------------------------------

    def _late_starts(self, records: Sequence[CallSegment], lost: Lost) -> tuple[list[CallSegment], set[str]]:
        """Return what stands for the starts of calls that have none, neither in ``records`` nor in the store, and who then has one."""
        assert self._store is not None
        named = {record.call_id for record in records if record.started is not None}
        firsts: dict[str, CallSegment] = {}
        for record in records:
            if record.sample_rate_hz > 0:  # else it tells no place in the call
                firsts.setdefault(record.call_id, record)
        unsure = {name for name in firsts if name not in named | self._named and lost.may_lack(name)}
        stored = {one.call.call_id: one.call for one in self._store.standing(unsure)}
        found: list[CallSegment] = []
        for call_id in sorted(unsure):
            call = stored.get(call_id)
            if call is None or not call.channels:
                started = lost.started(call_id)
                if started is None:
                    continue
                found += made_up_start(firsts[call_id], started)
            named.add(call_id)
        return found, named

    def _lacking(self, records: Sequence[CallSegment], lost: Lost) -> set[str]:
        """Return the calls that end here and are known to lack records."""
        assert self._store is not None
        ended = {record.call_id for record in records if _is_end(record) and lost.may_lack(record.call_id)}
        unsure = {call_id for call_id in ended if not lost.has_lost(call_id)}
        marked = {one.call.call_id for one in self._store.standing(unsure) if is_marked(one.degraded)}
        return (ended - unsure) | marked

    def _write_end(self, end: CallSegment) -> None:
        """Write the end of a call, and what it lacks."""
        assert self._store is not None
        batch = plan([end])
        stored = self._store.read(end.call_id)
        if stored is not None and end.ended is not None:
            gaps, coverage = missing(stored, end.ended.end_samples)
            batch = replace(batch, gaps=gaps, coverage=coverage)
        self._store.write(batch)


def _is_end(record: CallSegment) -> bool:
    return record.channel == CALL_CHANNEL and record.kind == "ended"
