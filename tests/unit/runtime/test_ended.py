from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pipeline.runtime.ended import TOGETHER, EndedCalls
from pipeline.runtime.lane_states import Known

ENDED = Known(2, "c", 10, False, "live", 10)
MARKED = ENDED._replace(is_marked=True)


class Written:
    """Stands for the lane states: what was asked of them."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    async def mark_ended(self, partition: int, call_id: str, generation: int) -> None:
        self.asked.append(("mark", partition, call_id, generation))

    async def delete(self, partition: int, call_ids: Sequence[str]) -> None:
        self.asked.append(("delete", partition, *call_ids))


def made(written: Written, *, is_over: bool = False) -> EndedCalls:
    return EndedCalls(written, lambda generation: is_over)  # type: ignore[arg-type]


def test_a_call_is_marked_behind_its_commit_and_forgotten_behind_retention() -> None:
    async def work() -> None:
        written = Written()
        ended = made(written)
        ended.end(2, "c", 10)
        await ended.mark(7, {2: 10, 3: 99}, ())
        assert written.asked == []
        assert ended.has_whole
        await ended.mark(7, {2: 11}, {"c"})  # records of it are in work
        assert written.asked == []
        await ended.mark(7, {2: 11}, ())
        assert written.asked == [("mark", 2, "c", 7)]
        assert (ended.has_whole, ended.has_marked) == (False, True)

        written.asked.clear()
        await ended.forget(7, {2: (10, 30), 3: (50, 60)}, ())
        await ended.forget(7, {3: (50, 60)}, ())  # the partition is another worker's
        await ended.forget(7, {2: (11, 30)}, {"c"})
        assert written.asked == []
        await ended.forget(7, {2: (11, 30)}, ())
        assert written.asked == [("delete", 2, "c")]
        assert not ended.has_marked

    asyncio.run(work())


def test_a_topic_that_was_made_again_has_none_of_the_calls() -> None:
    async def work() -> None:
        written = Written()
        ended = made(written)
        assert ended.restore(MARKED)
        await ended.forget(7, {2: (0, 1)}, ())
        assert [what for what, *_ in written.asked] == ["delete"]

    asyncio.run(work())


def test_states_say_which_calls_have_ended_and_which_are_marked() -> None:
    ended = made(Written())
    assert not ended.restore(ENDED._replace(ended_offset=None))
    assert (ended.has_whole, ended.has_marked) == (False, False)
    assert ended.restore(ENDED)
    assert (ended.has_whole, ended.has_marked) == (True, False)
    ended.clear()
    assert ended.restore(MARKED)
    assert (ended.has_whole, ended.has_marked) == (False, True)


def test_a_generation_that_is_over_writes_nothing() -> None:
    async def work() -> None:
        written = Written()
        ended = made(written, is_over=True)
        ended.end(0, "c", 1)
        await ended.mark(7, {0: 9}, ())
        ended.restore(MARKED)
        await ended.forget(7, {2: (9**9, 9**9)}, ())
        assert written.asked == []

    asyncio.run(work())


def test_many_marks_go_together() -> None:
    async def work() -> None:
        written = Written()
        ended = made(written)
        for number in range(2 * TOGETHER + 1):
            ended.restore(MARKED._replace(call_id=f"c{number}", ended_offset=number))
        await ended.forget(7, {2: (2 * TOGETHER, 9999)}, ())
        assert [len(asked) - 2 for asked in written.asked] == [TOGETHER, TOGETHER]
        assert ended.has_marked

    asyncio.run(work())
