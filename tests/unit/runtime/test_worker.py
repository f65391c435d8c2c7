"""What a worker holds when its partitions go away: nothing of them may be left, in memory or on its way to the broker."""

from __future__ import annotations

import asyncio
from collections import namedtuple
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from pipeline import stages
from pipeline.core.errors import NotReadyError
from pipeline.runtime import burials
from pipeline.runtime import worker as module
from pipeline.runtime.attempts import Attempts, Start
from pipeline.runtime.burials import MAX_BYTES, MAX_RECORDS
from pipeline.runtime.settings import Settings
from pipeline.runtime.transport import Fetched
from pipeline.runtime.worker import StageWorker
from schemas.codec import Codec

ROOM = 64
Record = namedtuple("Record", "topic partition offset key value headers", defaults=(b"junk", ()))


class Outbox:
    """An outbox whose records are never acknowledged."""

    def __init__(self) -> None:
        self.sent = 0
        self.is_settled = True
        self.never = asyncio.Event()

    def burst(self) -> Outbox:
        return self

    async def put(self, topic: str, **record: Any) -> None:
        self.sent += 1

    async def delivered(self) -> None:
        await self.never.wait()

    async def settled(self, seconds: float) -> bool:
        return self.is_settled


class Signal:
    """A signal of Faust's."""

    def __init__(self) -> None:
        self.receivers: list[Callable[..., Coroutine[Any, Any, None]]] = []

    def connect(self, receiver: Callable[..., Coroutine[Any, Any, None]]) -> None:
        self.receivers.append(receiver)

    async def send(self, **arguments: Any) -> None:
        for receiver in self.receivers:
            await receiver(None, **arguments)


class Data(dict[bytes, bytes]):
    """An empty store of a Faust table."""

    _key_partition: dict[bytes, int] = {}  # noqa: RUF012 - stays empty

    def apply_changelog_batch(self, batch: Any, **codecs: Any) -> None:
        raise AssertionError("nothing is restored")


class App:
    """What of a Faust app a worker uses."""

    def __init__(self) -> None:
        self.on_partitions_revoked, self.on_rebalance_complete, self.on_before_shutdown = Signal(), Signal(), Signal()
        self.changelog_topic = self.consumer = self
        self.data = Data()
        self.consumer_generation_id = 1
        self.released: dict[Any, int] = {}

    def Table(self, name: str, **options: Any) -> App:
        return self

    def get_topic_name(self) -> str:
        return "changelog"

    def topic(self, name: str, **options: Any) -> str:
        return name

    def agent(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        return lambda consume: consume

    timer = agent


class Commits:
    """What a worker with starts commits of its partition."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int | None]] = []  # the head, and what is in hand
        self.given_up: list[dict[int, int]] = []

    async def remember(self, starts: Mapping[int, Start], heads: Mapping[int, int]) -> bool:
        self.found += [(heads[0], Attempts.parse(start.metadata(heads[0])).in_hand) for start in starts.values()]
        return True

    async def give_up(self, starts: Mapping[int, Start], heads: Mapping[int, int], *, seconds: float) -> None:
        self.given_up.append(dict(heads))


def made(outbox: Outbox) -> tuple[App, StageWorker]:
    app = App()
    settings = Settings.model_validate({"runtime": {"pending_records": ROOM}})
    spec = stages.spec("diarize")
    worker = StageWorker(app, spec, settings, Codec(), outbox, logic=spec.make_logic(settings), engine=None)  # type: ignore[arg-type]
    worker.attach()
    return app, worker


def fetched(count: int, key: Callable[[int], bytes]) -> Fetched:
    return fetched_from(0, count, key)


def fetched_from(first: int, count: int, key: Callable[[int], bytes]) -> Fetched:
    return Fetched(1, [Record("speech", 0, number, key(number)) for number in range(first, first + count)])


async def turns(condition: Callable[[], bool]) -> None:
    """Give the loop turns until the condition holds."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


def tasks(kind: str) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith(kind)]


@pytest.mark.parametrize("calls", [1, 7, 100])
@pytest.mark.parametrize("is_end", [False, True])
def test_a_worker_with_a_backlog_lets_go_of_all_of_it(calls: int, is_end: bool) -> None:
    async def work() -> None:
        outbox = Outbox()
        app, worker = made(outbox)
        await worker._accept(fetched(200, lambda number: f"call-{number % calls}".encode()))
        await turns(lambda: outbox.sent > 0)
        assert worker._room.is_full(0)
        app.released["p0"] = 3
        await (app.on_before_shutdown.send() if is_end else app.on_partitions_revoked.send(revoked={"p0"}))
        assert (worker._room.inside, worker._room.inside_bytes) == (0, 0)
        assert tasks("call ") == []
        assert worker._calls == {}
        assert worker._ledgers == {}
        assert app.released == ({"p0": 3} if is_end else {})  # what is released is committed by an orderly end

    asyncio.run(work())


def test_nothing_behind_a_record_without_a_call_is_taken_in_after_a_rebalance() -> None:
    async def work() -> None:
        outbox = Outbox()
        app, worker = made(outbox)
        accepting = asyncio.ensure_future(
            worker._accept(fetched(MAX_RECORDS + 2, lambda number: b"call" if number > MAX_RECORDS else b"\xff no id"))
        )
        await turns(lambda: outbox.sent == MAX_RECORDS)
        assert not accepting.done()
        await app.on_partitions_revoked.send(revoked={"p0"})
        outbox.never.set()
        await turns(accepting.done)
        assert worker._calls == {}
        assert worker._ledgers == {}
        assert tasks("call ") == tasks("burial") == []
        assert outbox.sent == MAX_RECORDS
        assert app.released == {}

    asyncio.run(work())


def test_records_without_a_call_hold_up_nobody() -> None:
    async def work() -> None:
        outbox = Outbox()
        app, worker = made(outbox)
        place = (worker._input_name, 0)
        await worker._accept(fetched(MAX_RECORDS + 1, lambda number: b"\xff" if number < MAX_RECORDS else b"call"))
        await turns(lambda: outbox.sent == MAX_RECORDS + 1)  # the call's letter too
        assert app.released == {}
        outbox.never.set()
        await turns(lambda: app.released == {place: MAX_RECORDS + 1})
        assert tasks("burial") == []
        assert worker._carrier.counts["rejected"] == MAX_RECORDS + 1
        await worker._accept(
            fetched_from(MAX_RECORDS + 1, 3 * MAX_RECORDS, lambda number: b"\xff")
        )  # there is room again
        await turns(lambda: app.released == {place: 4 * MAX_RECORDS + 1})

    asyncio.run(work())


def test_large_records_without_a_call_are_few_at_a_time() -> None:
    async def work() -> None:
        outbox = Outbox()
        app, worker = made(outbox)
        value = bytes(MAX_BYTES // 2)
        records = [Record("speech", 0, number, b"\xff", value) for number in range(5)]
        accepting = asyncio.ensure_future(worker._accept(Fetched(1, records)))
        await turns(lambda: outbox.sent == 2)
        for _ in range(100):
            await asyncio.sleep(0)
        assert outbox.sent == 2
        await app.on_before_shutdown.send()
        await turns(accepting.done)
        assert (worker._burials._room.inside, worker._burials._room.inside_bytes) == (0, 0)

    asyncio.run(work())


def test_a_record_whose_dead_letter_is_lost_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[BaseException] = []
    monkeypatch.setattr(burials, "exit_hard", errors.append)

    class Losing(Outbox):
        async def delivered(self) -> None:
            raise NotReadyError("lost")

    async def work() -> None:
        app, worker = made(Losing())
        await worker._accept(fetched(1, lambda number: b"\xff"))
        await turns(lambda: bool(errors))
        assert app.released == {}

    asyncio.run(work())
    assert [str(error) for error in errors] == ["lost"]


def test_a_call_of_which_nothing_was_usable_is_not_kept() -> None:
    async def work() -> None:
        outbox = Outbox()
        outbox.never.set()  # everything is acknowledged
        _, worker = made(outbox)
        await worker._accept(fetched(3 * ROOM, lambda number: f"call-{number % 10}".encode()))
        await turns(lambda: worker._room.inside == 0 and not worker._calls)
        assert tasks("call ") == []
        assert worker._carrier.counts == {"records": 3 * ROOM, "rejected": 3 * ROOM, "repeats": 0}

    asyncio.run(work())


def test_records_that_stay_on_their_way_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[BaseException] = []
    monkeypatch.setattr(module, "exit_hard", errors.append)

    async def work() -> None:
        outbox = Outbox()
        outbox.is_settled = False
        app, _ = made(outbox)
        await app.on_partitions_revoked.send(revoked={"p0"})

    asyncio.run(work())
    assert [str(error) for error in errors] == [
        "partitions are given up while records are still on their way to the broker"
    ]


def careful(outbox: Outbox) -> tuple[App, StageWorker, Commits]:
    """A worker whose first two records are taken in hand alone."""
    app, worker = made(outbox)
    commits = Commits()
    worker._positions = worker._care._positions = commits  # type: ignore[assignment]
    worker._care.starts = {0: Start(offset=0, first=0, end=2, attempts=Attempts(starts=2))}
    return app, worker, commits


def test_the_last_record_that_was_taken_in_hand_is_put_down() -> None:
    async def work() -> None:
        outbox = Outbox()
        outbox.never.set()
        _, worker, commits = careful(outbox)
        await worker._accept(fetched(5, lambda number: b"call"))
        await turns(lambda: worker._room.inside == 0)
        assert commits.found == [(0, 0), (1, 1), (2, None)]

    asyncio.run(work())


def test_a_record_that_was_taken_in_hand_is_put_down_though_none_follows() -> None:
    """A feed may be quiet while an utterance is open: a death in that time is not the record's."""

    async def work() -> None:
        outbox = Outbox()
        outbox.never.set()
        _, worker, commits = careful(outbox)
        await worker._accept(fetched(1, lambda number: b"call"))
        assert commits.found == [(0, 0), (1, None)]

    asyncio.run(work())


def test_partitions_go_when_the_record_in_hand_is_done_that_may_end_the_process() -> None:
    async def work() -> None:
        outbox = Outbox()
        app, worker, commits = careful(outbox)
        accepting = asyncio.ensure_future(worker._accept(fetched(1, lambda number: b"call")))
        await turns(lambda: outbox.sent > 0)
        going = asyncio.ensure_future(app.on_partitions_revoked.send(revoked={"p0"}))
        for _ in range(100):
            await asyncio.sleep(0)
        assert commits.given_up == []
        outbox.never.set()
        await going
        await turns(accepting.done)
        assert commits.found[0] == (0, 0)
        assert commits.given_up == [{0: 1}]

    asyncio.run(work())
