"""One feed through one system: from nothing to figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from pipeline.bench.live.broker import BrokerProbe
from pipeline.bench.live.feed_process import FeedProcess
from pipeline.bench.live.feeder import FeedReport
from pipeline.bench.live.latency import (
    Heard,
    Percentiles,
    SpeakerLatency,
    Window,
    hear,
    own_latencies,
    speaker_latency,
    true_latencies,
)
from pipeline.bench.live.observing import Observation, Observer
from pipeline.bench.live.plan import FeedPlan, capture_start_ms
from pipeline.bench.live.replays import Document
from pipeline.bench.live.result import LATE_FEED_SECONDS, Figures, rates, summarise_lags
from pipeline.bench.live.usage import usage_between
from pipeline.bench.system import running
from pipeline.bench.word_ends import TrueWord
from pipeline.core.errors import FailedError
from pipeline.runtime.settings import Settings
from pipeline.sink.stores import open_store
from pipeline.sink.transcript import Transcript

HEAD_SECONDS = 1.0  # between telling the feeder to begin and the beginning
PATIENCE_SECONDS = 180.0  # after the last audio was fed, for the transcripts to be complete
POLL_SECONDS = 1.0

Spoken = Mapping[str, Sequence[TrueWord]]  # by call: what is said in it


def measure(
    settings: Settings,
    plan: FeedPlan,
    spoken: Spoken,
    *,
    measure_seconds: float,
    sample_seconds: float,
    abandon_seconds: float | None,
    say: Callable[[str], None],
) -> tuple[Figures, list[str]]:
    """Feed ``plan`` to a system of its own in the work folder of ``settings``; return figures, and why they do not count.

    The window begins with the last call. Returns when every transcript is complete, or `PATIENCE_SECONDS` after the feed.
    Raises AbandonedError when a stage is ``abandon_seconds`` behind, NotReadyError when a part does not become ready,
    FailedError when the feeder dies.
    """
    path = settings.work_folder / "plan.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    plan.write(path)
    with (
        running(settings, say=say) as system,
        closing(BrokerProbe(settings)) as probe,
        FeedProcess(path, settings) as feeder,
    ):
        probe.stamp_on_append()
        feeder.wait_ready()
        origin_ms = round((time.time() + HEAD_SECONDS) * 1000)
        feeder.begin(origin_ms)
        start_ms = origin_ms + plan.last_start_seconds * 1000
        window = Window(start_ms=start_ms, end_ms=start_ms + measure_seconds * 1000)
        observer = Observer(
            system=system,
            feeder=feeder,
            probe=probe,
            plan=plan,
            origin_ms=origin_ms,
            window=window,
            sample_seconds=sample_seconds,
            abandon_seconds=abandon_seconds,
            say=say,
        )
        seen = observer.watch()
        feed = feeder.report()
        _wait_complete(settings.work_folder, plan, say)
        starts_ms = {call.call_id: capture_start_ms(origin_ms, call) for call in plan.calls}
        heard = hear(settings, starts_ms, window)
        problems = [
            f"{worker.name} died and was started again" for worker in system.supervisor.state.workers if worker.restarts
        ]
    if feed.late_p99_seconds > LATE_FEED_SECONDS:
        problems.append(f"the feeder was {feed.late_p99_seconds:.2f} s behind its schedule (p99)")
    speakers = speaker_latency(heard, starts_ms, window) if plan.has_mixed_channels else None
    return _figures(seen, heard, starts_ms, spoken, window, feed, speakers), problems


def read_complete(work_folder: Path, plan: FeedPlan) -> dict[str, Document]:
    """Return by call the transcripts that the store holds complete."""
    store = open_store("", work_folder, create=False)
    try:
        stored = [store.read(call.call_id) for call in plan.calls]
    finally:
        store.close()
    return {
        one.call.call_id: Transcript.from_stored(one).to_document()
        for one in stored
        if one is not None and one.call.state == "complete"
    }


def _wait_complete(work_folder: Path, plan: FeedPlan, say: Callable[[str], None]) -> None:
    """Return when the store has every call complete, or patience is over."""
    say(f"all audio is fed; waiting for {len(plan.calls)} transcripts")
    deadline = time.monotonic() + PATIENCE_SECONDS
    store = open_store("", work_folder, create=False)
    try:
        while len(store.calls(state="complete")) < len(plan.calls) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    finally:
        store.close()


def _figures(
    seen: Observation,
    heard: Heard,
    starts_ms: Mapping[str, int],
    spoken: Spoken,
    window: Window,
    feed: FeedReport,
    speakers: SpeakerLatency | None,
) -> Figures:
    if seen.first is None or seen.last is None:
        raise FailedError("the broker was too slow to be looked at at both ends of the measured window")
    (first, sizes), (last, last_sizes) = seen.first, seen.last
    usage = usage_between(first, last)
    true_ends, words_spoken = true_latencies(heard, starts_ms, spoken, window)
    return Figures(
        true_ends=Percentiles.of(true_ends),
        own_ends=Percentiles.of(own_latencies(heard, starts_ms, window)),
        words_spoken=words_spoken,
        speakers=speakers,
        speech_written=Percentiles.of(heard.speech_seconds),
        segments_written=Percentiles.of(heard.segment_seconds),
        is_appended=heard.is_appended,
        lags=summarise_lags(seen.lags),
        usage=usage,
        topics=rates(sizes, last_sizes, usage.seconds),
        feed=feed,
    )
