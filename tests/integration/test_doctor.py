"""``callscribe doctor`` against a real broker: topics that are missing, as declared, and in conflict."""

from __future__ import annotations

import pytest

from pipeline.doctor import check_broker
from tests.integration.conftest import Kafka

pytestmark = pytest.mark.integration


def test_topics_missing_then_as_declared_then_in_conflict(kafka: Kafka) -> None:
    settings = kafka.settings()
    broker, topics = check_broker(settings)
    assert (broker.check, broker.status, topics.check, topics.status) == ("broker", "ok", "topics", "hint")
    assert topics.remedy == "callscribe topics apply"

    kafka.topics(settings.topics.prefix, settings.partitions)
    _, topics = check_broker(settings)
    assert topics.status == "ok"

    more = settings.model_copy(
        update={"topics": settings.topics.model_copy(update={"partitions": settings.partitions + 1})}
    )
    _, topics = check_broker(more)
    assert topics.status == "error"
    assert "fixed" in topics.detail or "partitions" in topics.detail
