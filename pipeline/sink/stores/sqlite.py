"""The embedded store: one SQLite file in write-ahead mode, one writer, any number of readers."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import cast

from pipeline.core.errors import CallscribeError, NotReadyError, PoisonError
from pipeline.sink.stores.sql import Connection, Dialect, SqlStore

BUSY_SECONDS = 10.0
MIN_FREE_BYTES = 128 * 1024  # about what a batch takes
# Of pages. The default is 2 MB, with which a sink needed no less processor time: the system caches the file, too.
CACHE_KILOBYTES = 512


def open_sqlite(path: Path, *, create: bool = True) -> SqlStore:
    """Return the store in the file ``path``; ``create`` makes what is missing. Raises NotReadyError."""
    uri = f"sqlite:///{path}"

    def connect() -> Connection:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise NotReadyError(f"store {uri}: no such file; it is made when the sink first starts (callscribe up)")
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            # Offsets are committed after the store: what COMMIT returned for must survive a power failure too.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KILOBYTES}")  # negative: kilobytes
        except BaseException:
            connection.close()
            raise
        return cast(Connection, connection)

    def translate(error: Exception) -> CallscribeError | None:
        if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | OverflowError):
            return PoisonError(f"store {uri}: refused by the database ({_code(error)})")
        if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
            return NotReadyError(f"store {uri}: {_reason(error)}")
        if isinstance(error, OSError):
            return NotReadyError(f"store {uri}: {error.strerror}")
        return None

    def check_room() -> None:
        free = shutil.disk_usage(path.parent).free
        if free < MIN_FREE_BYTES:  # a small write may find room in the write-ahead log where a batch does not
            raise NotReadyError(f"store {uri}: the disk is full ({free // 1024} kB free)")

    dialect = Dialect(
        parameter="?",
        json_type="TEXT",
        begin_read="BEGIN",
        begin_write="BEGIN IMMEDIATE",
        has_version="SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'store_version'",
        lock_migrations=None,
        lock_rows="",
        bound_locks=None,
        check_room=check_room,
        connect=connect,
        translate=translate,
    )
    return SqlStore(uri=uri, dialect=dialect, create=create)


def _code(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", type(error).__name__)


def _reason(error: Exception) -> str:
    # SQLite's texts of these classes name the condition ("database is locked", "disk I/O error"), never a value.
    return f"{error} ({_code(error)})"
