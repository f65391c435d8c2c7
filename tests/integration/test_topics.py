"""Topics on a real broker: what apply makes, what check finds, what is refused."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import typer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)
from typer.testing import CliRunner

from pipeline.cli import topics as commands
from pipeline.core.errors import FailedError, NotReadyError
from pipeline.runtime.provisioning import apply_topics, plan_topics
from pipeline.runtime.settings import Settings
from topics import load, provision, topic

from .conftest import Kafka

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(kafka: Kafka) -> Settings:
    return kafka.settings()


@pytest.fixture
def admin(kafka: Kafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap_servers})


def _audio(settings: Settings) -> str:
    return topic("call.audio").full_name(settings.topics.prefix)


def _alter(admin: AdminClient, name: str, key: str, value: str) -> None:
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def _drift(settings: Settings, count: int) -> list[provision.Change]:
    """Return the plan once it has ``count`` changes: a change is acknowledged before the broker shows it."""
    deadline = time.monotonic() + 20
    while len(changes := plan_topics(settings)) != count:
        assert time.monotonic() < deadline, changes
        time.sleep(0.05)
    return changes


def test_apply_creates_what_is_declared_and_leaves_no_drift(settings: Settings, admin: AdminClient) -> None:
    planned = plan_topics(settings)
    assert [change.action for change in planned] == ["create"] * len(load())
    assert apply_topics(settings) == planned
    assert plan_topics(settings) == []
    assert apply_topics(settings) == []

    present = admin.list_topics(timeout=10).topics
    for declared in load():
        assert len(present[declared.full_name(settings.topics.prefix)].partitions) == settings.partitions
    resource = ConfigResource(ResourceType.TOPIC, topic("call.state").full_name(settings.topics.prefix))
    (future,) = admin.describe_configs([resource]).values()
    config = {key: entry.value for key, entry in future.result().items()}
    assert config["cleanup.policy"] == "compact"
    assert config["retention.ms"] == "-1"


def test_drift_is_listed_and_mended(settings: Settings, admin: AdminClient) -> None:
    apply_topics(settings)
    _alter(admin, _audio(settings), "segment.bytes", "16777216")
    _alter(admin, _audio(settings), "retention.ms", "1234")
    (change,) = _drift(settings, 1)
    assert change == provision.Change(
        topic=_audio(settings), action="alter", details=("retention.ms 1234 -> 86400000",)
    )
    assert apply_topics(settings) == [change]
    assert plan_topics(settings) == []
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, _audio(settings))]).values()
    assert future.result()["segment.bytes"].value == "16777216", "what is not declared is left alone"


def test_another_number_of_partitions_is_refused_before_anything_changes(
    settings: Settings, admin: AdminClient
) -> None:
    apply_topics(settings)
    for future in admin.create_partitions([NewPartitions(_audio(settings), settings.partitions + 1)]).values():
        future.result()
    speech = topic("call.speech").full_name(settings.topics.prefix)
    _alter(admin, speech, "retention.ms", "1234")
    assert [(change.topic, change.action) for change in _drift(settings, 2)] == [
        (_audio(settings), "conflict"),
        (speech, "alter"),
    ]
    with pytest.raises(
        FailedError, match=rf"{_audio(settings)}: it has 3 partitions, declared are 2; .*nothing was changed"
    ):
        apply_topics(settings)
    assert len(plan_topics(settings)) == 2


def test_a_replication_factor_the_cluster_cannot_give_is_refused(kafka: Kafka) -> None:
    settings = kafka.settings(topics__replication_factor=3)
    with pytest.raises(FailedError, match="replication factor"):
        apply_topics(settings)
    kafka.topics(settings.topics.prefix)
    assert {change.details for change in plan_topics(settings)} == {("it has 1 replicas, declared are 3",)}


def test_two_appliers_at_once_agree(settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(apply_topics, settings) for _ in range(2)]:
            future.result()
    assert plan_topics(settings) == []


def test_no_broker_is_not_ready(monkeypatch: pytest.MonkeyPatch, kafka: Kafka) -> None:
    monkeypatch.setattr(provision, "CONNECT_SECONDS", 1.0)
    with pytest.raises(NotReadyError, match=r"127\.0\.0\.1:1: .*Connection refused"):
        plan_topics(kafka.settings(kafka__bootstrap_servers="127.0.0.1:1"))


def test_the_commands(settings: Settings, admin: AdminClient) -> None:
    environment = {
        "CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "CALLSCRIBE_TOPICS__PREFIX": settings.topics.prefix,
        "CALLSCRIBE_TOPICS__PARTITIONS": str(settings.topics.partitions),
    }
    app = typer.Typer()
    commands.register(app)

    def call(*arguments: str) -> tuple[Any, BaseException | None]:
        result = CliRunner().invoke(app, ["topics", *arguments], env=environment)
        return (json.loads(result.stdout) if "--json" in arguments else result.stdout), result.exception

    document, error = call("check", "--json")
    assert len(document["changes"]) == len(load())
    assert isinstance(error, FailedError)
    text, error = call("apply")
    assert f"create {_audio(settings)}: 2 partitions" in text
    assert error is None
    assert call("check", "--json") == ({"changes": []}, None)
    assert call("plan", "--json") == ({"changes": []}, None)
