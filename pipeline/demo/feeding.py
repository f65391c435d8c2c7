"""Feeds the shipped calls as a recording feed would: one thread a call, holds as control records."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pipeline.core.errors import FailedError
from pipeline.demo.assets import DemoCall
from pipeline.ingest.chunks import Control
from pipeline.ingest.feed import FedCall, FeedOptions, TimedControl
from pipeline.ingest.intake import Intake, Outlet, Silent, feed_all
from pipeline.ingest.pacing import Speed
from pipeline.ingest.sources import Source
from schemas.records import Hold


def options_of(call: DemoCall, record_seconds: float) -> FeedOptions:
    """Return how a shipped call is fed: its roles, and its holds at their times."""
    holds = [
        TimedControl(at_seconds=at, control=Control(kind="hold", body=Hold(active=active)))
        for event in call.events
        if event.kind == "hold"
        for at, active in ((event.start_seconds, True), (event.end_seconds, False))
    ]
    return FeedOptions(roles=call.roles, language="en", controls=tuple(holds), record_seconds=record_seconds)


def feed_calls(
    calls: Sequence[tuple[str, DemoCall]],
    outlet: Outlet,
    *,
    speed: Speed,
    record_seconds: float,
    stop: threading.Event,
) -> None:
    """Feed every (call id, call) at once; returns when all records are acknowledged. Raises FailedError when one was refused."""
    by_name = dict(calls)

    def feed(source: Source) -> FedCall:
        intake = Intake(
            options=options_of(by_name[source.name], record_seconds),
            raw=None,
            speed=speed,
            max_channels=2,
            new_call_id=lambda: source.name,
            connect=lambda: outlet,
            listener=Silent(),
            stop=stop,
        )
        return intake(source)

    sources = [Source(name=call_id, path=call.path) for call_id, call in calls]
    for fed in feed_all(sources, feed, workers=len(sources), stop=stop):
        if fed.outcome == "refused":
            raise FailedError(f"{fed.source}: {fed.reason}")
