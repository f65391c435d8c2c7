"""Transcript stores: SQLite embedded, PostgreSQL in production, one code path."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import UsageError
from pipeline.sink.stores.base import Store

FILE = "transcripts.sqlite"


def open_store(url: str, work_folder: Path, *, create: bool = True) -> Store:
    """Return the store at ``url``.

    Empty: SQLite in ``<work_folder>/transcripts.sqlite``. ``sqlite:///relative/path`` or ``sqlite:////absolute/path``:
    SQLite in that file. ``postgresql://user:password@host:port/database``: PostgreSQL. With ``create`` false (readers)
    a missing file or missing tables are an error instead of being made.

    Raises UsageError for any other URL, NotReadyError when the store cannot be used; no text holds a password.
    """
    scheme, separator, rest = url.partition("://")
    if not url or scheme == "sqlite":
        from pipeline.sink.stores.sqlite import open_sqlite

        if url and not rest.removeprefix("/"):
            raise UsageError("store.url names no file: sqlite:///relative/path or sqlite:////absolute/path")
        path = Path(rest.removeprefix("/")).expanduser() if url else work_folder / FILE
        return open_sqlite(path.resolve(), create=create)
    if separator and scheme in ("postgresql", "postgres"):
        from pipeline.sink.stores.postgres import open_postgres

        return open_postgres(url, create=create)
    raise UsageError("store.url must be empty, sqlite:///path or postgresql://...")
