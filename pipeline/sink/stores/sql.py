"""The store on an SQL database: one code path; what differs between databases is in `Dialect`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pipeline.core.errors import CallscribeError, NotReadyError, PoisonError
from pipeline.core.ids import CALL_CHANNEL
from pipeline.sink.logic import merge
from pipeline.sink.stores.base import Batch, CallChange, CallRow, CallSummary, State, StoredCall
from pipeline.sink.stores.schema import MIGRATIONS, VERSION_TABLE
from pipeline.sink.stores.tables import CALLS, COVERAGE, DEGRADED, EVENTS, GAPS, SEGMENTS, SPEAKERS, Table, latest

R = TypeVar("R")


class OfChannel(Protocol):
    """A row of one channel of a call."""

    @property
    def call_id(self) -> str:
        """Return the call."""

    @property
    def channel(self) -> int:
        """Return the channel, -1 for the call as a whole."""


class Cursor(Protocol):
    """What we use of a DB-API 2.0 cursor (PEP 249)."""

    def execute(self, statement: str, parameters: Sequence[Any] = ..., /) -> object:
        """Run one statement."""

    def executemany(self, statement: str, parameters: Sequence[Sequence[Any]], /) -> object:
        """Run one statement for each set of parameters."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows of the last statement."""


class Connection(Protocol):
    """What we use of a DB-API 2.0 connection in autocommit mode; transactions are opened by statement."""

    def cursor(self) -> Cursor:
        """Return a cursor."""

    def close(self) -> None:
        """Close; an open transaction is rolled back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What differs between databases.

    ``translate`` returns None for an error that is a fault of ours; ``check_room`` raises NotReadyError where there is known to be no
    room for a batch.
    """

    parameter: str
    json_type: str
    begin_read: str
    begin_write: str
    has_version: str
    lock_migrations: str | None
    lock_rows: str
    bound_locks: str | None
    connect: Callable[[], Connection]
    check_room: Callable[[], None]
    translate: Callable[[Exception], CallscribeError | None]


class SqlStore:
    """A `pipeline.sink.stores.base.Store` on SQL.

    Connects at once and brings the tables up to date, unless ``create`` is false: then missing tables are an error.
    Raises NotReadyError.
    """

    def __init__(self, *, uri: str, dialect: Dialect, create: bool = True) -> None:
        self._uri = uri
        self._dialect = dialect
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        try:
            self._prepare(create)
        except BaseException:
            self.close()
            raise

    @property
    def uri(self) -> str:
        """Return where the store is, without a password."""
        return self._uri

    def write(self, batch: Batch) -> None:
        """Write ``batch`` in one transaction. Raises PoisonError, NotReadyError."""
        if not batch.calls:
            return
        with self._transaction(self._dialect.begin_write) as cursor:
            calls = self._write_calls(cursor, batch.calls)
            _check_channels((*batch.segments, *batch.gaps, *batch.events, *batch.coverage, *batch.speakers), calls)
            self._upsert(cursor, SEGMENTS, batch.segments)
            self._upsert(cursor, GAPS, batch.gaps)
            self._upsert(cursor, DEGRADED, batch.degraded)
            self._upsert(cursor, EVENTS, batch.events)
            self._upsert(cursor, COVERAGE, batch.coverage)
            self._upsert(cursor, SPEAKERS, batch.speakers)

    def calls(self, *, state: State | None = None, limit: int | None = None) -> tuple[CallSummary, ...]:
        """Return the newest ``limit`` calls, oldest first. Raises NotReadyError."""
        condition, parameters = ("", ()) if state is None else (" WHERE state = ?", (state,))
        newest = " ORDER BY COALESCE(started_ms, 0) DESC, call_id DESC"
        bound = "" if limit is None else f" LIMIT {limit:d}"
        with self._transaction(self._dialect.begin_read) as cursor:
            calls = self._rows(cursor, CALLS, CALLS.select + condition + newest + bound, parameters)
            return tuple(self._summary(cursor, call) for call in reversed(calls))

    def read(self, call_id: str) -> StoredCall | None:
        """Return all rows of a call, None when the store does not know it. Raises NotReadyError."""
        with self._transaction(self._dialect.begin_read) as cursor:
            calls = self._rows(cursor, CALLS, CALLS.select_call, (call_id,))
            if not calls:
                return None
            return StoredCall(
                call=calls[0],
                segments=self._rows(cursor, SEGMENTS, SEGMENTS.select_call, (call_id,)),
                gaps=self._rows(cursor, GAPS, GAPS.select_call, (call_id,)),
                degraded=self._rows(cursor, DEGRADED, DEGRADED.select_call, (call_id,)),
                events=self._rows(cursor, EVENTS, EVENTS.select_call, (call_id,)),
                coverage=self._rows(cursor, COVERAGE, COVERAGE.select_call, (call_id,)),
                speakers=self._rows(cursor, SPEAKERS, SPEAKERS.select_call, (call_id,)),
            )

    def standing(self, call_ids: Collection[str]) -> tuple[StoredCall, ...]:
        """Return the row of each call that the store knows, and what degrades it; nothing else of it. Raises NotReadyError."""
        if not call_ids:
            return ()
        with self._transaction(self._dialect.begin_read) as cursor:
            return tuple(
                StoredCall(call=call, degraded=self._rows(cursor, DEGRADED, DEGRADED.select_call, (call.call_id,)))
                for call in self._rows(cursor, CALLS, _of_calls(call_ids), sorted(call_ids))
            )

    def check(self) -> None:
        """Write, and change nothing. Raises NotReadyError when nothing can be written now."""
        self._dialect.check_room()
        with self._transaction(self._dialect.begin_write) as cursor:
            if self._dialect.bound_locks:
                cursor.execute(self._dialect.bound_locks)
            cursor.execute("UPDATE store_version SET version = version")

    def close(self) -> None:
        """Release the connection."""
        with self._lock:
            self._disconnect()

    def _write_calls(self, cursor: Cursor, changes: tuple[CallChange, ...]) -> Mapping[str, CallRow]:
        names = sorted({change.call_id for change in changes})
        statement = f"{_of_calls(names)}{self._dialect.lock_rows}"
        stored = {call.call_id: call for call in self._rows(cursor, CALLS, statement, names)}
        merged: dict[str, CallRow] = dict(stored)
        for change in changes:
            merged[change.call_id] = merge(merged.get(change.call_id), change)
        self._upsert(cursor, CALLS, tuple(call for name, call in merged.items() if call != stored.get(name)))
        return merged

    def _upsert(self, cursor: Cursor, table: Table[R], rows: tuple[R, ...]) -> None:
        kept = latest(table, rows)
        if kept:
            cursor.executemany(self._statement(table.upsert), [table.values(row) for row in kept])

    def _rows(self, cursor: Cursor, table: Table[R], statement: str, parameters: Sequence[Any]) -> tuple[R, ...]:
        cursor.execute(self._statement(statement), parameters)
        return tuple(table.parse(tuple(values)) for values in cursor.fetchall())

    def _summary(self, cursor: Cursor, call: CallRow) -> CallSummary:
        counts = []
        for table in (SEGMENTS, GAPS):
            cursor.execute(self._statement(f"SELECT COUNT(*) FROM {table.name} WHERE call_id = ?"), (call.call_id,))
            counts.append(cursor.fetchall()[0][0])
        statement = "SELECT DISTINCT stage, reason FROM degraded WHERE call_id = ?"
        cursor.execute(self._statement(statement), (call.call_id,))
        reasons = tuple(sorted(f"{stage}: {reason}" for stage, reason in cursor.fetchall()))
        return CallSummary(call=call, segment_count=counts[0], gap_count=counts[1], degraded=reasons)

    def _statement(self, text: str) -> str:
        return text.replace("?", self._dialect.parameter)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Cursor]:
        """Give a cursor inside one transaction; any error drops the connection, and with it the transaction."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._dialect.connect()
                cursor = self._connection.cursor()
                cursor.execute(begin)
                yield cursor
                cursor.execute("COMMIT")
            except BaseException as error:
                self._disconnect()
                translated = self._dialect.translate(error) if isinstance(error, Exception) else None
                if translated is None:
                    raise
                raise translated from None  # the driver's text may hold a customer's words

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(Exception):  # there may be no transaction, or no connection any more
                self._connection.cursor().execute("ROLLBACK")  # SQLite's close waits for cursors that are still held
            with suppress(Exception):
                self._connection.close()
        self._connection = None

    def _prepare(self, create: bool) -> None:
        with self._transaction(self._dialect.begin_read) as cursor:
            version = self._version(cursor)
        if version > len(MIGRATIONS):
            versions = f"its tables have version {version}, this one knows {len(MIGRATIONS)}"
            raise NotReadyError(f"store {self._uri}: written by a newer callscribe ({versions})")
        if version == len(MIGRATIONS):
            return
        if not create:
            found = f"its tables have version {version}" if version else "it holds no callscribe tables"
            raise NotReadyError(f"store {self._uri}: {found}; the sink brings them up to date when it starts")
        with self._transaction(self._dialect.begin_write) as cursor:
            if self._dialect.lock_migrations is not None:
                cursor.execute(self._dialect.lock_migrations)
            self._migrate(cursor)

    def _version(self, cursor: Cursor) -> int:
        """Return the version of the tables, 0 where there are none."""
        cursor.execute(self._dialect.has_version)
        if not cursor.fetchall():
            return 0
        cursor.execute("SELECT MAX(version) FROM store_version")
        return int(cursor.fetchall()[0][0] or 0)

    def _migrate(self, cursor: Cursor) -> None:
        version = self._version(cursor)  # another process may have been faster
        if version == 0:
            cursor.execute(VERSION_TABLE)
            cursor.execute("INSERT INTO store_version (version) VALUES (0)")
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            for statement in statements:
                cursor.execute(statement.format(json=self._dialect.json_type))
            cursor.execute(f"UPDATE store_version SET version = {number}")


def _of_calls(call_ids: Collection[str]) -> str:
    """Return the statement that reads the rows of as many calls, in order."""
    return f"{CALLS.select} WHERE call_id IN ({', '.join('?' for _ in call_ids)}) ORDER BY call_id"


def _check_channels(rows: Iterable[OfChannel], calls: Mapping[str, CallRow]) -> None:
    """Refuse rows of channels that their call has not, where its channels are known. Raises PoisonError."""
    known = {call_id: {CALL_CHANNEL, *(leg.channel for leg in call.channels)} for call_id, call in calls.items()}
    for row in rows:
        channels = known[row.call_id]
        if len(channels) > 1 and row.channel not in channels:
            raise PoisonError(f"channel {row.channel} is not one of the call's {len(channels) - 1}")
