"""How each kind of row is written to its table and read back, as data; parameters are marked with ``?``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar

from pipeline.sink.stores.base import CallRow, CoverageRow, DegradedRow, EventRow, GapRow, SegmentRow, SpeakersRow
from schemas.records import Channel, Speaker, Word

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Generic[R]):
    """One table: ``columns`` maps each column to the attribute of the row it holds."""

    name: str
    row: Callable[..., R]
    columns: Mapping[str, str]
    key: tuple[str, ...]
    guard: str | None
    order: str
    documents: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]  # attribute -> (to JSON, from JSON)

    @property
    def upsert(self) -> str:
        """Return the statement that inserts a row, or replaces the stored one where `guard` allows it."""
        names = ", ".join(self.columns)
        marks = ", ".join("?" for _ in self.columns)
        changes = ", ".join(f"{name} = excluded.{name}" for name in self.columns if name not in self.key)
        guard = "" if self.guard is None else f" WHERE excluded.{self.guard} >= {self.name}.{self.guard}"
        keys = ", ".join(self.key)
        return f"INSERT INTO {self.name} ({names}) VALUES ({marks}) ON CONFLICT ({keys}) DO UPDATE SET {changes}{guard}"

    @property
    def select(self) -> str:
        """Return the statement that reads whole rows, without a condition."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name}"

    @property
    def select_call(self) -> str:
        """Return the statement that reads the rows of one call in order."""
        return f"{self.select} WHERE call_id = ? ORDER BY {self.order}"

    def identity(self, row: R) -> tuple[Any, ...]:
        """Return the key of ``row``."""
        return tuple(getattr(row, self.columns[name]) for name in self.key)

    def values(self, row: R) -> tuple[Any, ...]:
        """Return the parameters of `upsert`."""
        return tuple(self._to_column(name, getattr(row, name)) for name in self.columns.values())

    def parse(self, values: tuple[Any, ...]) -> R:
        """Return the row of a result of `select`."""
        attributes = self.columns.values()
        return self.row(
            **{name: self._from_column(name, value) for name, value in zip(attributes, values, strict=True)}
        )

    def _to_column(self, name: str, value: Any) -> Any:
        if name not in self.documents:
            return value
        return json.dumps(self.documents[name][0](value), ensure_ascii=False, separators=(",", ":"))

    def _from_column(self, name: str, value: Any) -> Any:
        if name not in self.documents:
            return value
        # PostgreSQL's driver parses JSON columns itself; SQLite gives the text.
        return self.documents[name][1](json.loads(value) if isinstance(value, str) else value)


def _columns(*names: str, **renamed: str) -> dict[str, str]:
    return {name: name for name in names} | renamed


CALLS = Table(
    name="calls",
    row=CallRow,
    columns=_columns(
        "call_id", "tenant", "state", "channels", "attributes", "duration_seconds", "started_ms", "sequence"
    ),
    key=("call_id",),
    guard="sequence",
    order="call_id",
    documents={
        "channels": (
            lambda channels: [channel.to_avro() for channel in channels],
            lambda values: tuple(Channel.from_avro(value) for value in values),
        ),
        "attributes": (dict, dict),
    },
)

SEGMENTS = Table(
    name="segments",
    row=SegmentRow,
    columns=_columns(
        "call_id",
        "channel",
        "start_sample",
        "revision",
        "end_sample",
        "sample_rate_hz",
        "role",
        "speaker",
        "text",
        "language",
        "model",
        "policy",
        "words",
    ),
    key=("call_id", "channel", "start_sample"),
    guard="revision",
    order="channel, start_sample",
    documents={
        "words": (
            lambda words: [word.to_avro() for word in words],
            lambda values: tuple(Word.from_avro(value) for value in values),
        )
    },
)

GAPS = Table(
    name="gaps",
    row=GapRow,
    columns=_columns("call_id", "channel", "start_sample", "end_sample", "sample_rate_hz", "reason"),
    key=("call_id", "channel", "start_sample"),
    guard=None,
    order="channel, start_sample",
    documents={},
)

DEGRADED = Table(
    name="degraded",
    row=DegradedRow,
    columns=_columns(
        "call_id",
        "stage",
        "reason",
        "channel",
        "start_sample",
        "sample_rate_hz",
        source_topic="topic",
        source_partition="partition",
        source_offset="offset",
    ),
    key=("call_id", "stage", "source_topic", "source_partition", "source_offset"),
    guard=None,
    order="stage, source_topic, source_partition, source_offset",
    documents={},
)

EVENTS = Table(
    name="events",
    row=EventRow,
    columns=_columns("call_id", "channel", "sequence", "kind", "start_sample", "sample_rate_hz", "detail"),
    key=("call_id", "channel", "sequence", "kind"),
    guard=None,
    order="channel, sequence, kind",
    documents={"detail": (dict, dict)},
)


COVERAGE = Table(
    name="coverage",
    row=CoverageRow,
    columns=_columns("call_id", "channel", "start_sample", "end_sample", "sample_rate_hz", "kind", "reason"),
    key=("call_id", "channel", "start_sample"),
    guard=None,
    order="channel, start_sample",
    documents={},
)


SPEAKERS = Table(
    name="speakers",
    row=SpeakersRow,
    columns=_columns("call_id", "channel", "sequence", "speakers", "unknown_words", "corrected_words"),
    key=("call_id", "channel"),
    guard="sequence",
    order="channel",
    documents={
        "speakers": (
            lambda speakers: [speaker.to_avro() for speaker in speakers],
            lambda values: tuple(Speaker.from_avro(value) for value in values),
        )
    },
)


def latest(table: Table[R], rows: tuple[R, ...]) -> tuple[R, ...]:
    """Return one row per identity, sorted by it: of several, the last one that the guard lets through.

    The result is what a store holds after upserting ``rows`` one by one. Writing in one fixed order keeps two writers
    from waiting for each other's rows.
    """
    kept: dict[tuple[Any, ...], R] = {}
    guard = None if table.guard is None else attrgetter(table.columns[table.guard])
    for row in rows:
        stored = kept.get(table.identity(row))
        if stored is None or guard is None or guard(row) >= guard(stored):
            kept[table.identity(row)] = row
    return tuple(kept[identity] for identity in sorted(kept))
