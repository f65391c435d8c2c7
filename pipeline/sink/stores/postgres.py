"""The production store: PostgreSQL 12 or newer through psycopg 3."""

from __future__ import annotations

from typing import Any, cast

import psycopg
from psycopg import conninfo

from pipeline.core.errors import CallscribeError, NotReadyError, PoisonError, UsageError
from pipeline.sink.stores.sql import Connection, Dialect, SqlStore

MIGRATIONS_LOCK = 7_301_962_115  # any number, the same in every callscribe
CONNECT_SECONDS = 10
LOST_PEER_MS = 30_000


def open_postgres(url: str, *, create: bool = True) -> SqlStore:
    """Return the store in the database at ``url``; ``create`` makes what is missing.

    ``url`` is a connection URI of libpq (PostgreSQL manual, "Connection URIs"); its own parameters win over ours.
    Raises UsageError when it is none, NotReadyError when the database cannot be used. Neither text holds a password.
    """
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise UsageError("store.url is not a PostgreSQL URI: postgresql://user:password@host:port/database") from None
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": LOST_PEER_MS,
        "application_name": "callscribe",
        **given,
    }
    uri = _uri(given)

    def connect() -> Connection:
        # No prepared statements: connection poolers in transaction mode do not keep them.
        return cast(Connection, psycopg.connect(**options, autocommit=True, prepare_threshold=None))

    def translate(error: Exception) -> CallscribeError | None:
        if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
            return PoisonError(f"store {uri}: refused by the database (SQLSTATE {error.sqlstate})")
        if isinstance(error, psycopg.Error):
            return NotReadyError(f"store {uri}: {_reason(error, str(given.get('password') or ''))}")
        return None

    dialect = Dialect(
        parameter="%s",
        json_type="JSONB",
        begin_read="BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        begin_write="BEGIN",
        has_version="SELECT 1 WHERE to_regclass('store_version') IS NOT NULL",
        lock_migrations=f"SELECT pg_advisory_xact_lock({MIGRATIONS_LOCK})",
        lock_rows=" FOR UPDATE",
        bound_locks="SET LOCAL lock_timeout = '5s'",
        check_room=lambda: None,
        connect=connect,
        translate=translate,
    )
    return SqlStore(uri=uri, dialect=dialect, create=create)


def _uri(given: dict[str, Any]) -> str:
    user = f"{given['user']}@" if given.get("user") else ""
    port = f":{given['port']}" if given.get("port") else ""
    return f"postgresql://{user}{given.get('host', '')}{port}/{given.get('dbname', '')}"


def _reason(error: psycopg.Error, password: str) -> str:
    """Return the first line of what the server or libpq says about the connection or a statement of ours."""
    lines = (error.diag.message_primary or str(error)).strip().splitlines() or [type(error).__name__]
    return lines[0].replace(password, "****") if password else lines[0]
