"""The declared topics and schemas on the outside systems that the settings name; errors in callscribe's own tree."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from pipeline.core.errors import FailedError, NotReadyError
from pipeline.runtime import security
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.settings import Settings
from schemas.codec import RepositorySchemas, SchemaSource
from topics import TopicsError, load

POLL_SECONDS = 0.2
FIRST_TELL_SECONDS, TELL_SECONDS = 10.0, 60.0  # until a wait is told, and between two lines of one
Used = TypeVar("Used")

log = logging.getLogger("callscribe.worker")

if TYPE_CHECKING:
    from topics.provision import Change


def plan_topics(settings: Settings) -> list[Change]:
    """Return what keeps the broker from ``topics.yaml``. Raises NotReadyError without a broker."""
    from topics import provision

    servers = bootstrap_servers(settings)
    with _translated(servers):
        config = security.confluent_config(settings.kafka, servers)
        return provision.plan(config, settings.topics.prefix, settings.partitions, settings.topics.replication_factor)


def apply_topics(settings: Settings) -> list[Change]:
    """Make the broker's topics what ``topics.yaml`` says; return what was done.

    Raises NotReadyError without a broker, FailedError when a topic differs in what is fixed for life.
    """
    from topics import provision

    servers = bootstrap_servers(settings)
    with _translated(servers):
        config = security.confluent_config(settings.kafka, servers)
        return provision.apply(config, settings.topics.prefix, settings.partitions, settings.topics.replication_factor)


def wait_for_topics(settings: Settings, patience_seconds: float) -> None:
    """Return when the broker has the declared topics. Raises NotReadyError when it has not after ``patience_seconds``."""
    patiently(lambda: _require_topics(settings), patience_seconds)


def patiently(use: Callable[[], Used], patience_seconds: float) -> Used:
    """Return what ``use`` returns; where it raises NotReadyError, ask again for ``patience_seconds``, and say so in the log."""
    deadline = time.monotonic() + patience_seconds
    told = time.monotonic() - TELL_SECONDS + FIRST_TELL_SECONDS  # a broker that is just starting is no news
    while True:
        try:
            return use()
        except NotReadyError as error:
            now = time.monotonic()
            if now >= deadline:
                raise
            if now >= told + TELL_SECONDS:
                log.warning("waiting: %s", error)
                told = now
        time.sleep(POLL_SECONDS)


def _require_topics(settings: Settings) -> None:
    if missing := [change.topic for change in plan_topics(settings)]:
        raise NotReadyError(f"topic {missing[0]} is not as declared, {len(missing) - 1} more: callscribe topics apply")


def subjects(prefix: str) -> dict[str, tuple[str, ...]]:
    """Return per record the registry's subjects of the topics that carry it (TopicNameStrategy: ``<topic>-value``)."""
    found: dict[str, tuple[str, ...]] = {}
    for topic in load():
        found[topic.schema] = (*found.get(topic.schema, ()), f"{topic.full_name(prefix)}-value")
    return found


def schema_source(settings: Settings, *, is_writer: bool = False) -> SchemaSource:
    """Return where schema ids come from: the registry when one is configured, else the repository.

    For a worker (``is_writer``) every id is asked for at once. Raises NotReadyError when the registry cannot be asked then, or lacks
    a schema.
    """
    if not settings.schemas.registry_url:
        return RepositorySchemas()
    from schemas.registry import Registry, RegistryError, RegistrySchemas

    registry = Registry(
        settings.schemas.registry_url,
        username=settings.schemas.registry_username,
        password=settings.schemas.registry_password.get_secret_value(),
    )
    source = RegistrySchemas(registry, subjects(settings.topics.prefix))
    if is_writer:
        try:
            source.preload()  # a worker must not wait for the registry in the middle of its records
        except RegistryError as error:
            source.close()
            raise NotReadyError(str(error)) from error
    return source


@contextlib.contextmanager
def _translated(servers: str) -> Iterator[None]:
    from topics.provision import BrokerUnreachableError

    try:
        yield
    except BrokerUnreachableError as error:
        raise NotReadyError(f"{servers}: {error}") from error
    except TopicsError as error:
        raise FailedError(str(error)) from error
