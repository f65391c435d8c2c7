"""What a run gives: figures, and whether it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from pipeline.bench.live.broker import StageLag, TopicSize
from pipeline.bench.live.compositions import Load
from pipeline.bench.live.feeder import FeedReport
from pipeline.bench.live.latency import Percentiles, SpeakerLatency
from pipeline.bench.live.usage import Usage

LATE_FEED_SECONDS = 0.2  # p99 of the feeder's lateness above which the load was not real time
SPEAKER_SECONDS = 3.0  # p95 of how long after its commit a word's speaker is final: the target


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRate:
    """What came into a topic per second; bytes are those of the log, batches and all."""

    records_per_second: float
    bytes_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LagSummary:
    """How far a stage was behind over the window: age in seconds of the oldest record not committed, and records."""

    samples: int
    p50_seconds: float
    max_seconds: float
    max_records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured. Latencies, usage, lags and rates are of the window; ``true_ends`` has the words that match the reference.

    ``speakers`` is None where every channel has one speaker.
    """

    true_ends: Percentiles
    own_ends: Percentiles
    words_spoken: int
    speakers: SpeakerLatency | None
    speech_written: Percentiles
    segments_written: Percentiles
    is_appended: bool
    lags: Mapping[str, LagSummary]
    usage: Usage
    topics: Mapping[str, TopicRate]
    feed: FeedReport


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """One run. ``compared`` transcripts were held against the replay; a short run compares none.

    ``recognisers`` are the models and policies that the segments name. ``named_share`` is the share of words of all complete
    transcripts whose segment names a speaker, None where every channel has one and where there are no words.

    ``problems`` say why it does not count, None figures that it was given up.
    """

    calls: int
    load: Load
    is_full: bool
    spread_seconds: float
    measure_seconds: float
    speech_share: float
    complete: int
    compared: int
    different: tuple[str, ...]
    recognisers: tuple[str, ...]
    word_error_rate: float | None
    named_share: float | None
    problems: tuple[str, ...]
    figures: Figures | None

    @property
    def counts(self) -> bool:
        """Return whether the run is valid: real-time load, every transcript complete and equal to its replay, nothing restarted."""
        return not self.problems

    def passes(self, p95_seconds: float) -> bool:
        """Return whether the run counts, and words and, of mixed calls, their speakers are in time."""
        return self.counts and self.is_prompt(p95_seconds) and self.has_prompt_speakers is not False

    def is_prompt(self, p95_seconds: float) -> bool:
        """Return whether the 95th percentile of latency by true word ends is at most ``p95_seconds``."""
        p95 = self.figures.true_ends.p95 if self.figures is not None else None
        return p95 is not None and p95 <= p95_seconds

    @property
    def has_prompt_speakers(self) -> bool | None:
        """Return whether words have their speakers as soon as the target wants, None where every channel has one speaker."""
        if self.figures is None or self.figures.speakers is None:
            return None
        p95 = self.figures.speakers.after_commit.p95
        return p95 is not None and p95 <= SPEAKER_SECONDS

    def to_document(self) -> dict[str, Any]:
        """Return the run as JSON values."""
        return {
            "calls": self.calls,
            "load": self.load,
            "is_full": self.is_full,
            "counts": self.counts,
            "problems": list(self.problems),
            "spread_seconds": self.spread_seconds,
            "measure_seconds": self.measure_seconds,
            "recognisers": list(self.recognisers),
            "speech_share": round(self.speech_share, 4),
            "transcripts": {
                "complete": self.complete,
                "compared": self.compared,
                "different": list(self.different),
            },
            "word_error_rate": self.word_error_rate,
            **(_figures_document(self.figures) if self.figures is not None else {}),
            **_speakers_document(self),
        }


def summarise_lags(samples: Sequence[Mapping[str, StageLag]]) -> dict[str, LagSummary]:
    """Return by stage how far it was behind over all samples."""
    by_stage: dict[str, list[StageLag]] = {}
    for sample in samples:
        for stage, lag in sample.items():
            by_stage.setdefault(stage, []).append(lag)
    return {
        stage: LagSummary(
            samples=len(lags),
            p50_seconds=round(median(lag.lag_seconds for lag in lags), 3),
            max_seconds=max(lag.lag_seconds for lag in lags),
            max_records=max(lag.lag_records for lag in lags),
        )
        for stage, lags in by_stage.items()
    }


def rates(first: Mapping[str, TopicSize], last: Mapping[str, TopicSize], seconds: float) -> dict[str, TopicRate]:
    """Return what came into every topic between two looks."""
    return {
        name: TopicRate(
            records_per_second=round((size.records - first[name].records) / seconds, 2),
            bytes_per_second=round(max(size.log_bytes - first[name].log_bytes, 0) / seconds, 1),
        )
        for name, size in last.items()
    }


def _speakers_document(run: LiveRun) -> dict[str, Any]:
    if run.figures is None or run.figures.speakers is None:
        return {}
    return {
        "speakers": {
            "known_after_commit_seconds": asdict(run.figures.speakers.after_commit),
            "p95_target_seconds": SPEAKER_SECONDS,
            "words_never_known": run.figures.speakers.never,
            "named_share": run.named_share,
        }
    }


def _figures_document(figures: Figures) -> dict[str, Any]:
    usage = figures.usage
    return {
        "word_commit_latency_seconds": {
            "true_ends": asdict(figures.true_ends),
            "own_ends": asdict(figures.own_ends),
            "is_broker_time": figures.is_appended,
        },
        "words_spoken": figures.words_spoken,
        "written_after_capture_seconds": {
            "call.speech": asdict(figures.speech_written),
            "call.segments": asdict(figures.segments_written),
        },
        "lag": {stage: asdict(lag) for stage, lag in figures.lags.items()},
        "processes": [
            {
                "name": process.name,
                "cores": round(process.cores, 4),
                "rss_bytes": {"start": process.rss_bytes[0], "end": process.rss_bytes[1]},
                "uss_bytes": {"start": process.uss_bytes[0], "end": process.uss_bytes[1]},
            }
            for process in usage.processes
        ],
        "machine": {
            "window_seconds": round(usage.seconds, 3),
            "own_cores": round(usage.own_cores, 4),
            "busy_cores": round(usage.busy_cores, 4),
            "foreign_cores": round(usage.foreign_cores, 4),
            "stolen_cores": round(usage.stolen_cores, 4),
        },
        "topics": {name: asdict(rate) for name, rate in figures.topics.items()},
        "feeder": asdict(figures.feed),
    }
