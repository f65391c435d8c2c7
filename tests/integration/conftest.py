"""One real Apache Kafka for all integration tests; every test has topics of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo import assets
from pipeline.replay import Replay
from pipeline.runtime.broker import EmbeddedBroker
from pipeline.runtime.security import confluent_config
from pipeline.runtime.settings import BrokerSettings, Settings
from tests.integration.postgres import postgres
from tests.integration.system import System, clip, replayed, running
from topics import provision

__all__ = ["kafka", "postgres"]  # fixtures

PARTITIONS = 2


@dataclass(frozen=True, kw_only=True)
class Kafka:
    """The broker of this test run."""

    bootstrap_servers: str
    folder: Path

    def settings(self, **overrides: Any) -> Settings:
        """Return settings for this broker with a topic prefix and a work folder of their own.

        ``overrides`` are dotted keys with ``__`` for the dot: ``topics__partitions=6``.
        """
        name = f"t{uuid.uuid4().hex[:12]}"
        values = {
            "kafka__bootstrap_servers": self.bootstrap_servers,
            "topics__prefix": name,
            "topics__partitions": PARTITIONS,
            "runtime__work_folder": str(self.folder / name),
            "diarize__engine": "channel",  # no test but those of diarization waits for torch
            **overrides,
        }
        sections: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            section, _, field = key.partition("__")
            sections.setdefault(section, {})[field] = value
        return Settings.model_validate(sections)

    def topics(self, prefix: str, partitions: int = PARTITIONS) -> None:
        """Create the declared topics under ``prefix``."""
        provision.apply({"bootstrap.servers": self.bootstrap_servers}, prefix, partitions, -1)

    def ready(self, **overrides: Any) -> Settings:
        """Return settings whose topics exist."""
        settings = self.settings(**overrides)
        self.topics(settings.topics.prefix, settings.partitions)
        return settings

    def config(self, settings: Settings) -> dict[str, Any]:
        """Return the confluent-kafka configuration of ``settings``."""
        return confluent_config(settings.kafka, self.bootstrap_servers)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Start one embedded broker for the whole run."""
    folder = tmp_path_factory.mktemp("kafka")
    broker = EmbeddedBroker(Settings(broker=BrokerSettings(compiler="quick")), folder / "broker")
    try:
        yield Kafka(bootstrap_servers=broker.start(), folder=folder)
    finally:
        broker.stop()


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> assets.DemoCall:
    """Cut 14 s from a shipped call."""
    return clip(assets.calls()[2], 14.0, tmp_path_factory.mktemp("calls"))


@pytest.fixture(scope="module")
def replay() -> Replay:
    """Run every stage in this process."""
    return Replay(Settings())


@pytest.fixture(scope="module")
def expected(replay: Replay, call: assets.DemoCall) -> dict[str, Any]:
    """Return the transcript of the call, undisturbed."""
    document = replayed(replay, call)
    assert len(document["segments"]) >= 3
    assert document["degraded"] == []
    return document


@pytest.fixture(scope="module")
def system(kafka: Kafka) -> Iterator[System]:
    """Run every stage, with one partition and a short session."""
    with running(kafka.ready(topics__partitions=1, kafka__session_timeout_seconds=6)) as running_system:
        yield running_system
