"""The topics of callscribe, read from ``topics.yaml`` into frozen values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent / "topics.yaml"
UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class TopicsError(ValueError):
    """``topics.yaml`` is wrong, or a topic is not declared in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One declared topic; ``retention_ms`` is -1 where records stay for ever."""

    name: str
    version: int | None
    changelog_of: str | None
    key: str
    schema: str
    group: str
    cleanup: str
    retention_ms: int
    max_message_bytes: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    description: str

    def full_name(self, prefix: str) -> str:
        """Return the name on the broker.

        >>> topic("call.audio").full_name("callscribe")
        'callscribe.call.audio.v1'
        """
        suffix = "" if self.version is None else f".v{self.version}"
        return f"{prefix}.{self.name}{suffix}"

    @property
    def config(self) -> dict[str, str]:
        """Return the broker-side configuration of the topic."""
        return {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
        }


def parse_duration_ms(text: str | None) -> int:
    """Return milliseconds of ``24h``, ``7d``, ...; -1 for null. Raises TopicsError.

    >>> parse_duration_ms("24h"), parse_duration_ms(None)
    (86400000, -1)
    """
    if text is None:
        return -1
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise TopicsError(f"a duration is a number and one of s, m, h, d; got {text!r}")
    return int(match[1]) * UNITS[match[2]]


def _parse(row: dict[str, Any]) -> Topic:
    row = dict(row)
    retention = row.pop("retention")
    return Topic(
        retention_ms=parse_duration_ms(retention),
        version=row.pop("version", None),
        changelog_of=row.pop("changelog_of", None),
        producers=tuple(row.pop("producers")),
        consumers=tuple(row.pop("consumers")),
        **row,
    )


@cache
def load() -> tuple[Topic, ...]:
    """Return every declared topic. Raises TopicsError when the file does not fit `Topic`."""
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    try:
        topics = tuple(_parse(row) for row in document["topics"])
    except (TypeError, KeyError) as error:
        raise TopicsError(f"{FILE.name}: {error}") from error
    names = [topic.name for topic in topics]
    if len(set(names)) != len(names):
        raise TopicsError(f"{FILE.name}: a name is declared twice")
    undeclared = {topic.group for topic in topics} - set(document["groups"])
    if undeclared:
        raise TopicsError(f"{FILE.name}: undeclared group {', '.join(sorted(undeclared))}")
    return topics


def topic(name: str) -> Topic:
    """Return the topic declared as ``name``. Raises TopicsError."""
    for candidate in load():
        if candidate.name == name:
            return candidate
    raise TopicsError(f"no topic {name!r} in {FILE.name}")


def changelog_of(stage: str) -> Topic:
    """Return the changelog topic of a stage. Raises TopicsError."""
    return topic(f"{stage}-state-changelog")
