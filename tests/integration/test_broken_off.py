"""A feed that breaks off and never comes back: no stage keeps its call for longer than the input holds it."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.core.errors import CallRefusedError
from pipeline.demo import assets
from pipeline.runtime.call_state import read_state
from pipeline.sink.coverage import coverage_of
from pipeline.stages import STAGES
from tests.integration.conftest import Kafka
from tests.integration.feeds import HalfFed
from tests.integration.reading import is_marked, stored_call
from tests.integration.system import clip, running, wait_for
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECONDS = 60.0


def test_an_interrupted_call_is_ended_when_retention_has_deleted_it(kafka: Kafka, tmp_path: Any) -> None:
    settings = kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6, ingest__idle_seconds=3)
    call = clip(assets.calls()[2], 14.0, tmp_path)

    def state(call_id: str) -> str | None:
        found = read_state(settings, call_id)
        return found and found.state

    with running(settings) as system:
        gone, back = HalfFed(settings, call, "gone"), HalfFed(settings, call, "back")
        for feed in (gone, back):
            feed.first_half()
            wait_for(lambda feed=feed: state(feed.call_id) == "interrupted", SECONDS, "the feed is closed")  # type: ignore[misc]
        place = TopicPartition(topic("call.audio").full_name(settings.topics.prefix), 0, -1)  # everything there is
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        for future in admin.delete_records([place]).values():
            future.result()
        HalfFed(settings, call, "back", take_over=True).rest()
        system.kill("vad")  # a worker looks when it has started, and every minute
        found = system.transcript("gone")
        assert found["segments"]
        assert found["gaps"] == []
        assert coverage_of(stored_call(settings, "gone")).problems == ()
        assert state("gone") == "complete"
        with pytest.raises(CallRefusedError, match="complete"):
            HalfFed(settings, call, "gone", take_over=True)
        system.transcript("back")
        for stage in STAGES:
            if stage != "sink":
                wait_for(lambda stage=stage: is_marked(settings, stage, "gone"), SECONDS, f"{stage} has let it go")  # type: ignore[misc]
