"""Many sources in one command: side by side, each on its own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import CallRefusedError, NotReadyError
from pipeline.core.feeds import Grant, Place
from pipeline.ingest.feed import FeedOptions
from pipeline.ingest.intake import Intake, feed_all
from pipeline.ingest.pacing import Speed
from pipeline.ingest.sources import Source
from schemas.records import CallAudio, Started
from tests.unit.ingest.recordings import speechlike, write


class Topic:
    """Keeps what is produced, as the broker would."""

    def __init__(self, complete: tuple[str, ...] = (), *, is_away: bool = False) -> None:
        self.records: list[CallAudio] = []
        self.states: list[tuple[str, str]] = []
        self.taken_over: set[str] = set()
        self._complete = complete
        self._is_away = is_away

    def delivery(self) -> Topic:
        return self

    def send(self, record: CallAudio) -> None:
        if self._is_away:
            raise NotReadyError("topic call.audio: a record was not acknowledged")
        self.records.append(record)

    def wait(self) -> None:
        pass

    def take(self, call_id: str, *, started: Started, is_new: bool, take_over: bool = False) -> Grant:
        if not is_new and call_id in self._complete:
            raise CallRefusedError(f"call {call_id} is complete already")
        self.states.append((call_id, "live"))
        return Grant(feed_epoch=1, next_control=0)

    def leave(self, call_id: str, *, state: str, feed_epoch: int, place: Place, started: Started) -> None:
        self.states.append((call_id, state))

    def place(self, call_id: str, grant: Grant, *, is_stopped: Callable[[], bool]) -> Place | None:
        raise AssertionError("nobody has fed the call before")

    def holds(self, call_id: str, grant: Grant) -> bool:
        return call_id not in self.taken_over

    def close(self) -> None:
        pass


class Quiet:
    def began(self, source: Source, call_id: str, duration_seconds: float | None) -> None:
        pass

    def progressed(self, source: Source, seconds: float) -> None:
        pass


def intake(topic: Topic | None, *, speed: Speed = "max", call_id: str | None = None) -> Intake:
    numbers = itertools.count()

    def connect() -> Topic:
        assert topic is not None, "no broker is needed for bad input"
        return topic

    return Intake(
        options=FeedOptions(),
        raw=None,
        speed=speed,
        max_channels=8,
        new_call_id=lambda: f"call-{next(numbers)}",
        connect=connect,
        listener=Quiet(),
        call_id=call_id,
    )


def recording(folder: Path, name: str, seconds: float = 0.5) -> Source:
    path = write(folder / name, speechlike(seconds, 8000), 8000, "ULAW")
    return Source(name=name, path=path)


def test_a_bad_source_does_not_stop_the_others(tmp_path: Path) -> None:
    topic = Topic()
    (tmp_path / "bad.wav").write_bytes(b"no audio at all")
    sources = [
        recording(tmp_path, "a.wav"),
        Source(name="bad.wav", path=tmp_path / "bad.wav"),
        Source(name="folder", problem="is a folder without recordings"),
        recording(tmp_path, "b.wav"),
    ]
    feed = intake(topic)
    fed = list(feed_all(sources, feed, workers=1, stop=feed.stop))
    assert [(call.source, call.outcome, call.call_id) for call in fed] == [
        ("a.wav", "ended", "call-0"),
        ("bad.wav", "refused", None),
        ("folder", "refused", None),
        ("b.wav", "ended", "call-1"),
    ]
    assert {record.call_id for record in topic.records} == {"call-0", "call-1"}
    assert topic.states == [("call-0", "live"), ("call-0", "complete"), ("call-1", "live"), ("call-1", "complete")]


def test_bad_input_is_told_without_a_broker(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"")
    fed = intake(None)(Source(name="bad.wav", path=tmp_path / "bad.wav"))
    assert (fed.outcome, fed.reason) == ("refused", "is empty (0 bytes)")


def test_a_complete_call_is_not_fed_again(tmp_path: Path) -> None:
    topic = Topic(complete=("c1",))
    fed = intake(topic, call_id="c1")(recording(tmp_path, "a.wav"))
    assert (fed.outcome, fed.reason) == ("refused", "call c1 is complete already")
    assert topic.records == []


def test_fifty_live_calls_run_side_by_side(tmp_path: Path) -> None:
    topic = Topic()
    source = recording(tmp_path, "a.wav", seconds=1.0)
    feed = intake(topic, speed="real")
    fed = list(feed_all([source] * 50, feed, workers=50, stop=feed.stop))
    assert [call.outcome for call in fed] == ["ended"] * 50
    for index in range(50):
        mine = [record for record in topic.records if record.call_id == f"call-{index}"]
        assert [record.kind for record in mine] == ["started", *["audio"] * 5, "ended"]
    # Side by side: every call had begun before the first one ended.
    kinds = [record.kind for record in topic.records]
    assert kinds[: kinds.index("ended")].count("started") == 50


def test_a_stop_interrupts_the_calls_under_way_and_leaves_the_rest(tmp_path: Path) -> None:
    topic = Topic()
    feed = intake(topic, speed="real")
    long = recording(tmp_path, "long.wav", seconds=60.0)
    results = feed_all([long, long, long], feed, workers=2, stop=feed.stop)
    stopper = threading.Timer(0.5, feed.stop.set)
    stopper.start()
    fed = list(results)
    stopper.join()
    assert [(call.outcome, call.reason) for call in fed] == [("interrupted", "stopped")] * 2
    assert sorted(topic.states[-2:]) == [("call-0", "interrupted"), ("call-1", "interrupted")]
    assert not any(record.kind == "ended" for record in topic.records)


def test_a_broker_that_is_away_stops_everything(tmp_path: Path) -> None:
    feed = intake(Topic(is_away=True))
    sources = [recording(tmp_path, f"{name}.wav") for name in "abc"]
    with pytest.raises(NotReadyError, match="not acknowledged"):
        list(feed_all(sources, feed, workers=2, stop=feed.stop))
    assert feed.stop.is_set()


def test_a_feed_whose_call_was_taken_over_says_so_and_leaves_it_alone(tmp_path: Path) -> None:
    topic = Topic()
    topic.taken_over.add("mine")
    fed = intake(topic, call_id="mine")(Source(name="a", path=write(tmp_path / "a.wav", speechlike(1.0, 8000), 8000)))
    assert fed.outcome == "refused"
    assert fed.reason is not None
    assert "taken over by another feed" in fed.reason
    assert topic.states == [("mine", "live")]
