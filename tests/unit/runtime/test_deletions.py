"""What the sink notices of deleted records: when partitions come, and while it reads."""

from __future__ import annotations

from typing import Any

from pipeline.runtime.deletions import Deletions


class Message:
    """A record's place."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


def made(*, first: int, committed: int | None) -> Deletions:
    starts: Any = None
    deletions = Deletions(starts)
    deletions.gain(0, first=first, committed=committed, offset=max(first, committed or 0))
    return deletions


def test_what_may_lack_and_what_has_lost() -> None:
    found = [
        made(first=first, committed=committed) for first, committed in [(0, None), (0, 5), (3, 5), (7, 5), (7, None)]
    ]
    assert [one.may_lack("c") for one in found] == [False, False, True, True, True]
    assert [one.has_lost("c") for one in found] == [False, False, False, True, True]


def test_a_client_that_reads_on_behind_what_was_deleted_is_noticed() -> None:
    deletions = made(first=0, committed=5)
    for offset in (5, 6):
        deletions.read(Message(offset))
    assert not deletions.may_lack("c")
    deletions.read(Message(9))
    assert deletions.may_lack("c")
    assert deletions.has_lost("c")


def test_what_others_have_read_is_not_missing() -> None:
    deletions = made(first=0, committed=5)
    deletions.forget(0)
    deletions.read(Message(90))
    assert not deletions.has_lost("c")
