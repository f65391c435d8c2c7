from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.bench.live.feeder import FeedReport, PreparedCall, feed, prepare
from pipeline.bench.live.plan import FeedPlan, PlannedCall, PlannedRecording, read_plan, spread_calls
from schemas.codec import Codec
from schemas.records import CallAudio
from tests.unit.bench.live.calls import recording

ORIGIN_MS = 1_764_000_000_000
CODEC = Codec()


@dataclass
class Clock:
    """Time that goes on by sleeping, and by ``cost`` for every record."""

    cost: float = 0.0
    now: float = 50.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Received:
    """An outlet that decodes what comes, and when."""

    clock: Clock
    records: list[tuple[float, CallAudio]] = field(default_factory=list)
    is_waited_for: bool = False

    def put(self, call_id: bytes, value: bytes, kind: bytes) -> None:
        record = CODEC.decode(value, CallAudio)
        assert (record.call_id.encode(), record.kind.encode()) == (call_id, kind)
        self.records.append((self.clock.now, record))
        self.clock.now += self.clock.cost

    def serve(self) -> None:
        pass

    def wait(self) -> None:
        self.is_waited_for = True


@pytest.fixture
def prepared(tmp_path: Path) -> list[PreparedCall]:
    """Five calls of two recordings of 1.0 and 1.3 s."""
    recordings = {
        name: PlannedRecording(
            path=str(recording(name, tmp_path, seconds=seconds, spoken={0: [], 1: []}).path),
            roles=("agent", "customer"),
        )
        for name, seconds in (("a", 1.0), ("b", 1.3))
    }
    calls = spread_calls(5, ["a", "b"], spread_seconds=2.0, record_seconds=0.2)
    return prepare(FeedPlan(record_seconds=0.2, recordings=recordings, calls=calls), CODEC)


def fed(prepared: list[PreparedCall], clock: Clock, *, is_stopped: bool = False) -> tuple[Received, FeedReport]:
    received = Received(clock)
    report = feed(
        prepared,
        received,
        origin_ms=ORIGIN_MS,
        origin=clock.now + 1.0,
        monotonic=clock.monotonic,
        sleep=clock.sleep,
        is_stopped=lambda: is_stopped,
    )
    return received, report


def test_every_record_comes_when_its_last_sample_was_captured(prepared: list[PreparedCall]) -> None:
    clock = Clock()
    received, report = fed(prepared, clock)
    origin = 51.0
    starts = {one.call.call_id: one.call.start_seconds for one in prepared}
    for at, record in received.records:
        samples = 0 if record.audio is None else len(record.audio.data)
        assert at == pytest.approx(origin + starts[record.call_id] + (record.start_sample + samples) / 8000, abs=2e-3)
        captured_ms = ORIGIN_MS + starts[record.call_id] * 1000 + record.start_sample / 8
        assert record.capture_time_ms == pytest.approx(captured_ms, abs=1.0)
    assert received.is_waited_for
    assert max(clock.slept) <= 0.5
    assert report.is_complete
    assert report.records == len(received.records)
    assert report.late_max_seconds == pytest.approx(0.0, abs=1e-6)


def test_calls_are_whole_and_share_their_audio(prepared: list[PreparedCall]) -> None:
    received, _ = fed(prepared, Clock())
    by_call: dict[str, list[CallAudio]] = {}
    for _, record in received.records:
        by_call.setdefault(record.call_id, []).append(record)
    assert len(by_call) == 5
    for records in by_call.values():
        assert (records[0].kind, records[-1].kind) == ("started", "ended")
        for channel in (0, 1):
            own = [record for record in records if record.channel == channel]
            assert [record.sequence for record in own] == list(range(len(own)))
    audio = [b"".join(record.audio.data for record in by_call[f"live-000{index}"] if record.audio) for index in (0, 2)]
    assert audio[0] == audio[1]
    assert prepared[0].slots is prepared[2].slots


def test_lateness_is_told(prepared: list[PreparedCall]) -> None:
    _, report = fed(prepared[:1], Clock(cost=0.15))  # two records every 0.2 s take 0.3 s
    assert report.late_p50_seconds == pytest.approx(0.1)
    assert report.late_p99_seconds == report.late_max_seconds == pytest.approx(0.4)


def test_a_stopped_feed_says_so(prepared: list[PreparedCall]) -> None:
    received, report = fed(prepared, Clock(), is_stopped=True)
    assert not report.is_complete
    assert not received.is_waited_for
    assert received.records == []


def test_starts_are_spread_evenly_and_off_the_grid() -> None:
    calls = spread_calls(60, ["a", "b", "c"], spread_seconds=60.0, record_seconds=0.2)
    assert [call.recording for call in calls[:4]] == ["a", "b", "c", "a"]
    assert all(abs(call.start_seconds - index) < 0.2 for index, call in enumerate(calls))
    phases = sorted(call.start_seconds % 0.2 for call in calls)
    assert max(later - phase for phase, later in itertools.pairwise(phases)) < 0.02


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = FeedPlan(
        record_seconds=0.2,
        recordings={"a": PlannedRecording(path="/a.wav", roles=("agent",))},
        calls=(PlannedCall(call_id="live-0000", recording="a", start_seconds=1.5),),
    )
    plan.write(tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
