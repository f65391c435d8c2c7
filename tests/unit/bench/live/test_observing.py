from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.bench.live.broker import STAGES, StageLag, TopicSize, _input_of, _rounds
from pipeline.bench.live.latency import Window
from pipeline.bench.live.observing import AbandonedError, Observation, Observer
from pipeline.bench.live.plan import FeedPlan, spread_calls
from pipeline.bench.system import System
from pipeline.core.errors import NotReadyError
from pipeline.runtime.settings import RuntimeSettings, Settings
from pipeline.runtime.supervise import Supervisor

ENDLESS = Window(start_ms=0, end_ms=float("inf"))


class ScriptedProbe:
    """A broker of which every look says the same, or nothing where the script has None."""

    def __init__(self, *lags: float | None) -> None:
        self._lags = iter(lags)
        self._failures = 2
        self._records = 0

    def lags(self) -> dict[str, StageLag]:
        behind = next(self._lags, 0.0)
        if behind is None:
            raise NotReadyError("no answer")
        return {"vad": StageLag(lag_records=1, lag_seconds=0.0), "asr": StageLag(lag_records=2, lag_seconds=behind)}

    def sizes(self) -> Mapping[str, TopicSize]:
        if self._failures:
            self._failures -= 1
            raise NotReadyError("no answer")
        self._records += 100
        return {"call.audio": TopicSize(records=self._records, log_bytes=0)}


class ScriptedFeeder:
    """Feeds until ``is_over``."""

    pid = 0

    def __init__(self) -> None:
        self.is_over: Callable[[], bool] = lambda: False

    @property
    def is_running(self) -> bool:
        return not self.is_over()


Watch = Callable[..., Observer]


@pytest.fixture
def observer(tmp_path: Path) -> Iterator[Watch]:
    """Make an observer of scripted parts; what it says goes to ``said``."""
    settings = Settings(runtime=RuntimeSettings(work_folder=str(tmp_path)))
    system = System(settings, Supervisor(tmp_path, ()))

    def make(probe: ScriptedProbe, *, is_over: Callable[[Observation], bool], **changes: Any) -> Observer:
        now_ms = time.time() * 1000
        feeder = ScriptedFeeder()
        values: dict[str, Any] = {
            "system": system,
            "feeder": cast("Any", feeder),
            "probe": probe,
            "plan": FeedPlan(
                record_seconds=0.2,
                recordings={},
                calls=spread_calls(4, ["a"], spread_seconds=0.0, record_seconds=0.2),
            ),
            "origin_ms": round(now_ms) - 1000,
            "window": Window(start_ms=now_ms + 20, end_ms=now_ms + 120),
            "sample_seconds": 0.01,
            "abandon_seconds": None,
            "say": lambda text: None,
        }
        made = Observer(**(values | changes))
        feeder.is_over = lambda: is_over(made.seen)
        return made

    return make


def test_both_ends_of_the_window_are_taken_once_however_often_the_broker_must_be_asked(observer: Watch) -> None:
    seen = observer(ScriptedProbe(), is_over=lambda seen: seen.last is not None).watch()
    assert seen.first is not None
    assert seen.last is not None
    (first, sizes), (last, last_sizes) = seen.first, seen.last
    assert sizes["call.audio"].records == 100
    assert last_sizes["call.audio"].records == 200
    assert last.at > first.at


def test_a_window_that_ends_with_the_feed_is_taken(observer: Watch) -> None:
    watched = observer(ScriptedProbe(), is_over=lambda seen: seen.first is not None, window=ENDLESS)
    assert watched.watch().last is not None


def test_a_look_the_broker_does_not_answer_is_counted(observer: Watch) -> None:
    lines: list[str] = []
    probe = ScriptedProbe(None, 1.0, None)
    seen = observer(probe, is_over=lambda seen: len(seen.lags) == 2, window=ENDLESS, say=lines.append).watch()
    assert seen.missed == 2
    assert [lags["asr"].lag_seconds for lags in seen.lags] == [1.0, 0.0]
    assert len(lines) == 2
    assert "4 of 4 calls started" in lines[0]


def test_a_hopeless_run_is_given_up(observer: Watch) -> None:
    watched = observer(ScriptedProbe(1.0, 61.0), is_over=lambda seen: False, abandon_seconds=60.0)
    with pytest.raises(AbandonedError, match="asr is 61 s behind"):
        watched.watch()


def test_every_stage_reads_one_topic() -> None:
    assert [_input_of(stage).name for stage in STAGES] == [
        "call.audio",
        "call.speech",
        "call.speech",
        "call.annotations",
        "call.segments",
    ]


def test_a_partition_is_read_at_one_offset_at_a_time() -> None:
    places = {("a", 0, 5), ("a", 0, 7), ("a", 1, 5), ("b", 0, 5), ("a", 0, 9)}
    rounds = list(_rounds(places))
    assert len(rounds) == 3
    for group in rounds:
        assert len({place[:2] for place in group}) == len(group)
    assert {place for group in rounds for place in group} == places
