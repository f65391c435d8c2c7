"""A topic is deleted and made again while the workers run: it is named, every stage waits for it, and reads it from its beginning."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from pipeline.cli.up import _status
from pipeline.demo import assets
from pipeline.runtime.provisioning import apply_topics
from pipeline.runtime.settings import Settings
from tests.integration.conftest import Kafka
from tests.integration.feeds import HalfFed
from tests.integration.system import System, wait_for
from topics import topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECONDS = 60.0


def problems(settings: Settings) -> str:
    return "; ".join(_status(settings)["problems"])


def feed(system: System, call: assets.DemoCall, call_id: str) -> dict[str, Any]:
    """Feed a call whole; returns its transcript."""
    whole = HalfFed(system.settings, call, call_id)
    whole.rest()
    return system.transcript(call_id)


@pytest.mark.parametrize("base", ["call.audio", "call.speech", "call.annotations", "call.segments", "call.state"])
def test_a_deleted_topic_is_named_and_waited_for(
    kafka: Kafka, system: System, call: assets.DemoCall, expected: dict[str, Any], base: str
) -> None:
    """The offsets that the stages have reached in the old topic say nothing of the new one: its first records have lower ones."""
    settings = system.settings
    name = topic(base).full_name(settings.topics.prefix)
    assert feed(system, call, f"before-{base}") == expected
    before = [worker.restarts for worker in system.supervisor.state.workers]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.delete_topics([name])[name].result()
    wait_for(lambda: f"topic {name} is missing" in problems(settings), SECONDS, "status names the topic")
    assert not _status(settings)["is_ready"]
    apply_topics(settings)
    wait_for(lambda: problems(settings) == "", SECONDS, "it is there again")
    assert feed(system, call, f"after-{base}") == expected
    assert [worker.restarts for worker in system.supervisor.state.workers] == before
