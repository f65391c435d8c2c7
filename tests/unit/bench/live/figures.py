"""Runs with figures that are easy to tell apart, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from pipeline.bench.live.broker import StageLag, TopicSize
from pipeline.bench.live.feeder import FeedReport
from pipeline.bench.live.latency import Percentiles, SpeakerLatency
from pipeline.bench.live.result import Figures, LiveRun, rates, summarise_lags
from pipeline.bench.live.usage import ProcessSample, Sample, usage_between


def sample(at: float, *, busy: float, pid: int = 7, **cpu_seconds: float) -> Sample:
    """Return a sample of processes of 10 MB each, one more per second."""
    return Sample(
        at=at,
        processes={
            name: ProcessSample(pid=pid, cpu_seconds=cpu, rss_bytes=int(10e6 + 1e6 * at), uss_bytes=int(5e6 + 1e6 * at))
            for name, cpu in cpu_seconds.items()
        },
        machine_busy_seconds=busy,
        machine_stolen_seconds=0.01 * at,
    )


def a_run(
    *, p95: float = 1.5, problems: tuple[str, ...] = (), speakers: SpeakerLatency | None = None, **changes: Any
) -> LiveRun:
    """Return a run of 20 calls whose latency has the given 95th percentile."""
    latencies = [p95 - 0.5, *([p95] * 18), p95 + 1.0]
    figures = Figures(
        true_ends=Percentiles.of(latencies),
        own_ends=Percentiles.of([0.9]),
        words_spoken=21,
        speakers=speakers,
        speech_written=Percentiles.of([0.2]),
        segments_written=Percentiles.of([]),
        is_appended=True,
        lags=summarise_lags(
            [
                {"vad": StageLag(lag_records=3, lag_seconds=0.5)},
                {"vad": StageLag(lag_records=9, lag_seconds=0.3)},
                {"vad": StageLag(lag_records=1, lag_seconds=4.0)},
            ]
        ),
        usage=usage_between(sample(10, busy=100, broker=5, bench=1), sample(20, busy=112, broker=9, bench=1.5)),
        topics=rates(
            {"call.audio": TopicSize(records=100, log_bytes=1000)},
            {"call.audio": TopicSize(records=300, log_bytes=9000)},
            10.0,
        ),
        feed=FeedReport(
            records=400,
            value_bytes=60_000,
            late_p50_seconds=0.001,
            late_p99_seconds=0.004,
            late_max_seconds=0.02,
            is_complete=True,
        ),
    )
    values: dict[str, Any] = {
        "calls": 20,
        "load": "two_channel",
        "is_full": True,
        "spread_seconds": 60.0,
        "measure_seconds": 180.0,
        "speech_share": 0.7,
        "complete": 20,
        "compared": 20,
        "different": (),
        "recognisers": ("demo@1 alignatt",),
        "word_error_rate": 0.0123,
        "named_share": None,
        "problems": problems,
        "figures": figures,
    }
    return LiveRun(**(values | changes))


def a_mixed_run(*, speakers_p95: float = 2.5, **changes: Any) -> LiveRun:
    """Return such a run of mixed calls; the speakers of 97.5 % of all words are known."""
    seconds = [0.0] * 10 + [speakers_p95] * 9 + [speakers_p95 + 1.0]
    speakers = SpeakerLatency(after_commit=Percentiles.of(seconds), never=1)
    return a_run(**({"load": "mixed", "named_share": 0.975, "speakers": speakers} | changes))
