"""Make a broker's topics what ``topics.yaml`` says: plan, apply, check.

Grow-only. A missing topic is created and a changed configuration altered; nothing is ever deleted, and a topic with
another number of partitions or replicas is refused: more partitions would send the rest of a live call elsewhere (a
key's partition is its hash modulo the count), and replicas are the cluster operator's to move.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from topics import Topic, TopicsError, load

TIMEOUT_SECONDS = 30.0
CONNECT_SECONDS = 10.0
UNREACHABLE = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError._AUTHENTICATION,
}


class BrokerUnreachableError(TopicsError):
    """The broker does not answer, or refuses the credentials."""


class ConflictError(TopicsError):
    """A topic on the broker cannot be made what ``topics.yaml`` says without losing its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A difference between the declaration and the broker.

    ``action``: ``create`` (the topic is missing), ``alter`` (its configuration differs), ``conflict`` (it differs in
    what is fixed for life). ``details`` are lines such as ``retention.ms 3600000 -> 86400000``.
    """

    topic: str
    action: str
    details: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.action} {self.topic}: {', '.join(self.details)}"


def plan(config: Mapping[str, Any], prefix: str, partitions: int, replication_factor: int) -> list[Change]:
    """Return what keeps the broker from the declaration, in the order of ``topics.yaml``; empty when nothing does.

    ``config`` is a confluent-kafka configuration. ``replication_factor`` -1 takes the broker's default and accepts any.
    Raises BrokerUnreachableError.
    """
    return _plan(_Broker(config), prefix, partitions, replication_factor)


def apply(config: Mapping[str, Any], prefix: str, partitions: int, replication_factor: int) -> list[Change]:
    """Create and alter until the broker is as declared; return what was done.

    Safe to run twice, and by two at once. Raises ConflictError before anything is changed, BrokerUnreachableError, and
    TopicsError when the broker refuses a change.
    """
    broker = _Broker(config)
    changes = _plan(broker, prefix, partitions, replication_factor)
    conflicts = [change for change in changes if change.action == "conflict"]
    if conflicts:
        rest = f" (and {len(conflicts) - 1} more)" if len(conflicts) > 1 else ""
        raise ConflictError(
            f"{conflicts[0].topic}: {', '.join(conflicts[0].details)}{rest}; this is fixed for life, so nothing was "
            "changed: correct the setting (topics.partitions, topics.replication_factor) or take another topics.prefix"
        )
    declared = {topic.full_name(prefix): topic for topic in load()}
    new = [
        NewTopic(
            change.topic,
            num_partitions=partitions,
            replication_factor=replication_factor,
            config=declared[change.topic].config,
        )
        for change in changes
        if change.action == "create"
    ]
    if new:
        _settle(
            broker.client.create_topics(new, request_timeout=TIMEOUT_SECONDS), ignore=KafkaError.TOPIC_ALREADY_EXISTS
        )
    drifted = [
        ConfigResource(
            ResourceType.TOPIC,
            change.topic,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in declared[change.topic].config.items()
            ],
        )
        for change in changes
        if change.action == "alter"
    ]
    if drifted:
        _settle(broker.client.incremental_alter_configs(drifted, request_timeout=TIMEOUT_SECONDS))
    if changes:
        _wait(broker, {change.topic for change in changes}, prefix, partitions, replication_factor)
    return changes


def _plan(broker: _Broker, prefix: str, partitions: int, replication_factor: int) -> list[Change]:
    present = broker.topics()
    declared = {topic.full_name(prefix): topic for topic in load()}
    configs = broker.configs([name for name in declared if name in present])
    changes = []
    for name, topic in declared.items():
        if name not in present:
            replicas = "the broker's default" if replication_factor == -1 else str(replication_factor)
            details = (
                f"{partitions} partitions",
                f"replication {replicas}",
                *(f"{key}={value}" for key, value in topic.config.items()),
            )
            changes.append(Change(topic=name, action="create", details=details))
            continue
        fixed = _fixed_differences(present[name], partitions, replication_factor)
        drift = _drift(topic, configs[name])
        if fixed:
            changes.append(Change(topic=name, action="conflict", details=fixed))
        if drift:
            changes.append(Change(topic=name, action="alter", details=drift))
    return changes


def _fixed_differences(present: Any, partitions: int, replication_factor: int) -> tuple[str, ...]:
    found = []
    if len(present.partitions) != partitions:
        found.append(f"it has {len(present.partitions)} partitions, declared are {partitions}")
    replicas = min((len(partition.replicas) for partition in present.partitions.values()), default=0)
    if replication_factor not in (-1, replicas):
        found.append(f"it has {replicas} replicas, declared are {replication_factor}")
    return tuple(found)


def _drift(topic: Topic, present: Mapping[str, str | None]) -> tuple[str, ...]:
    return tuple(
        f"{key} {present.get(key)} -> {value}" for key, value in topic.config.items() if present.get(key) != value
    )


class _Broker:
    """An admin client that can say why it has no connection."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._errors: deque[KafkaError] = deque(maxlen=4)
        # Errors come back from the calls; librdkafka's own log lines would only repeat them on stderr.
        try:
            self.client = AdminClient({"log_level": 0, **config, "error_cb": self._errors.append})
        except KafkaException as error:  # a certificate that is none, a mechanism this build lacks
            raise BrokerUnreachableError(f"the Kafka client cannot be made ({error.args[0].str()})") from error

    def topics(self) -> dict[str, Any]:
        """Return the metadata of every topic by name. Raises TopicsError."""
        try:
            topics = self.client.list_topics(timeout=CONNECT_SECONDS).topics
        except KafkaException as error:
            self.client.poll(0)  # runs error_cb
            reasons = [cause for cause in self._errors if cause.code() != KafkaError._ALL_BROKERS_DOWN]
            reason = reasons[-1] if reasons else error.args[0]
            raise BrokerUnreachableError(f"the Kafka broker cannot be used ({reason.str()})") from error
        return {name: topic for name, topic in topics.items() if topic.error is None}

    def configs(self, names: list[str]) -> dict[str, dict[str, str | None]]:
        """Return the effective configuration of each topic. Raises TopicsError."""
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        found = _settle(self.client.describe_configs(resources, request_timeout=TIMEOUT_SECONDS))
        return {
            resource.name: {key: entry.value for key, entry in entries.items()} for resource, entries in found.items()
        }


def _settle(futures: Mapping[Any, Future[Any]], ignore: int | None = None) -> dict[Any, Any]:
    """Wait for every future and return the results. Raises TopicsError naming the topic that was refused."""
    results = {}
    for key, future in futures.items():
        try:
            results[key] = future.result()
        except KafkaException as error:
            if error.args[0].code() != ignore:
                raise _typed(error, getattr(key, "name", key)) from error
    return results


def _typed(error: KafkaException, topic: str | None = None) -> TopicsError:
    cause = error.args[0]
    if cause.code() in UNREACHABLE:
        return BrokerUnreachableError(f"the Kafka broker cannot be used ({cause.str()})")
    return TopicsError(f"{topic or 'the broker'}: {cause.str()}")


def _wait(broker: _Broker, names: Iterable[str], prefix: str, partitions: int, replication_factor: int) -> None:
    """Wait until the broker shows leaders for ``names`` and no difference is left. Raises TopicsError."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        present = broker.topics()
        has_leaders = all(
            name in present and all(part.leader >= 0 for part in present[name].partitions.values()) for name in names
        )
        left = _plan(broker, prefix, partitions, replication_factor) if has_leaders else []
        if has_leaders and not left:
            return
        if time.monotonic() > deadline:
            what = left[0] if left else "a partition has no leader"
            raise TopicsError(f"the topics are not as declared {TIMEOUT_SECONDS:.0f} s after the change: {what}")
        time.sleep(0.05)
