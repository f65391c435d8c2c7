"""The sink behind deleted records: the call has its channels, and what was not stored is a gap, however often records come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.core.errors import NotReadyError
from pipeline.sink.coverage import coverage_of
from pipeline.sink.stage import Sink
from pipeline.sink.stores import open_store
from pipeline.sink.stores.base import Store, StoredCall
from schemas.records import CallSegment, Started
from tests.fakes import CALL, EPOCH_MS, Call, passed, run_chain, said

SPOKEN = Call(script={0: said("one two three.", at=1.0) + said("four.", at=4.0), 1: said("five.", at=2.5)}, seconds=8.0)
RECORDS = [passed(record) for record in run_chain(SPOKEN).segments]
LAST = len(RECORDS) - 1


class Lost:
    """A topic of which records were deleted, in the life of this process or before it."""

    def __init__(self, *, known: Started | None = SPOKEN.started, is_now: bool = False) -> None:
        self.known = known
        self.is_now = is_now
        self.asked: list[str] = []
        self.is_away = False

    def may_lack(self, call_id: str) -> bool:
        return True

    def has_lost(self, call_id: str) -> bool:
        return self.is_now

    def started(self, call_id: str) -> Started | None:
        self.asked.append(call_id)
        if self.is_away:
            raise NotReadyError("the broker is away")
        return self.known


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    stores: list[Store] = []

    def make() -> Store:
        stores.append(open_store("", tmp_path / str(len(stores))))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def written(store: Store, records: Sequence[CallSegment], lost: Lost, batch: int = 500) -> StoredCall:
    sink = Sink(lambda: store)
    for start in range(0, len(records), batch):
        sink.write(records[start : start + batch], lost)
    found = store.read(CALL)
    assert found is not None
    return found


def check(found: StoredCall) -> None:
    account = coverage_of(found)
    assert account.problems == ()
    assert found.call.state == "complete"
    assert found.call.channels == SPOKEN.started.channels
    assert found.call.duration_seconds == 8.0
    assert {row.reason for row in found.gaps} <= {"deleted_records"}
    for channel in account.channels:
        assert channel.covered_samples == channel.accepted_samples
        rows = [row for row in found.segments if row.channel == channel.channel]
        assert channel.totals["segment"] == sum(row.end_sample - row.start_sample for row in rows)
        gaps = [row for row in found.gaps if row.channel == channel.channel]
        assert channel.totals["gap"] == sum(row.end_sample - row.start_sample for row in gaps)


@pytest.mark.parametrize("cut", range(1, len(RECORDS)))
def test_records_from_the_start_on_were_deleted(new_store: Callable[[], Store], cut: int) -> None:
    rest = RECORDS[cut:]
    whole = written(new_store(), rest, Lost())
    check(whole)
    assert [(row.stage, row.reason) for row in whole.degraded] == [("sink", "deleted_records")]
    assert whole.call.started_ms is not None
    assert abs(whole.call.started_ms - EPOCH_MS) <= 1
    assert written(new_store(), rest, Lost(), batch=1) == whole
    again = new_store()
    written(again, rest, Lost(), batch=3)
    for start in range(len(rest)):  # read again from anywhere, with other batches and another process
        assert written(again, rest[start:], Lost(), batch=2) == whole


@pytest.mark.parametrize("stored", [2, 4, 6, 8])
def test_records_in_the_middle_were_deleted(new_store: Callable[[], Store], stored: int) -> None:
    """The sink was away for longer than the topic keeps records; what it had stored stays."""
    for cut in range(stored + 1, len(RECORDS)):
        store = new_store()
        written(store, RECORDS[:stored], Lost())
        found = written(store, RECORDS[cut:], Lost(is_now=True))
        account = coverage_of(found)
        assert account.problems == ()
        assert {row.reason for row in found.gaps} <= {"deleted_records"}
        assert found.degraded == ()
        assert written(store, RECORDS[cut:], Lost(is_now=True), batch=1) == found


def test_a_call_that_lacks_nothing_is_stored_as_ever(new_store: Callable[[], Store]) -> None:
    lost = Lost()
    found = written(new_store(), RECORDS, lost, batch=3)
    store = new_store()
    Sink(lambda: store).write(RECORDS)
    assert store.read(CALL) == found
    assert written(new_store(), RECORDS, Lost(is_now=True)) == found
    assert lost.asked == []


def test_of_a_call_that_nobody_knows_what_there_is_is_stored(new_store: Callable[[], Store]) -> None:
    found = written(new_store(), RECORDS[LAST:], Lost(known=None))
    assert (found.call.state, found.call.channels, found.gaps) == ("complete", (), ())


def test_while_nobody_can_be_asked_nothing_is_stored(new_store: Callable[[], Store]) -> None:
    store, lost = new_store(), Lost()
    sink = Sink(lambda: store)
    lost.is_away = True
    with pytest.raises(NotReadyError):
        sink.write(RECORDS[LAST:], lost)
    assert store.read(CALL) is None
    lost.is_away = False
    sink.write(RECORDS[LAST:], lost)
    found = store.read(CALL)
    assert found is not None
    check(found)
