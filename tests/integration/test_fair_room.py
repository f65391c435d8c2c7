"""A call whose backlog is far more than a worker takes into memory, and calls in another partition of the same workers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo import assets
from pipeline.runtime.call_state import partition_of
from pipeline.runtime.settings import Settings
from tests.integration.conftest import PARTITIONS, Kafka
from tests.integration.feeds import HalfFed
from tests.integration.reading import records_of
from tests.integration.system import looped, running, wait_for, wait_for_words

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

ROOM = 64  # records
BACKLOG_SECONDS = 1200  # at full speed
WAITING = 10 * ROOM  # records of speech that the recogniser has before it: more than a read takes at once
TURNS = 5  # outputs of the backlog for one of a later call, which waits for its records at times
WRITERS = {"vad": "call.speech", "asr": "call.annotations", "assemble": "call.segments"}
BACKLOG = "backlog"
AWAY = tuple(
    name
    for number in range(20)
    if partition_of(name := f"live-{number}", PARTITIONS) != partition_of(BACKLOG, PARTITIONS)
)[:3]


def outputs(settings: Settings, name: str) -> list[str]:
    """Return the calls of a topic's records, in the order of their writing."""
    found = [one for partition in range(PARTITIONS) for one in records_of(settings, name, partition=partition)]
    return [one.key().decode() for one in sorted(found, key=lambda one: one.timestamp())]


def test_a_backlog_that_fills_the_room_holds_up_no_other_partition(
    kafka: Kafka, call: assets.DemoCall, expected: dict[str, Any], tmp_path: Path
) -> None:
    settings = kafka.ready(runtime__pending_records=ROOM, kafka__session_timeout_seconds=6)
    with running(settings) as system:
        backlog = HalfFed(settings, looped(assets.calls()[0], BACKLOG_SECONDS, tmp_path), BACKLOG)
        feeds = [HalfFed(settings, call, call_id) for call_id in AWAY]
        backlog.rest()
        wait_for_words(settings, BACKLOG)
        wait_for(lambda: len(outputs(settings, "call.speech")) > WAITING, 60, "the recogniser is behind")
        before = {name: len(outputs(settings, name)) for name in WRITERS.values()}
        for feed in feeds:
            feed.rest()
        for call_id in AWAY:
            assert system.transcript(call_id) == expected
        written = {}
        for stage, name in WRITERS.items():
            found = outputs(settings, name)[before[name] :]
            last = max(place for place, key in enumerate(found) if key in AWAY)
            written[stage] = Counter(found[: last + 1])  # until the later calls are done
        for counts in written.values():
            assert 0 < counts[BACKLOG] <= TURNS * max(counts[call_id] for call_id in AWAY), written
