from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.sink.logic import plan
from pipeline.sink.stores import open_store
from tests.unit.sink.records_of_calls import started, whole_call
from tests.unit.sink.stores.suite import Open, StoreSuite, opening


@pytest.fixture
def open_it(tmp_path: Path) -> Iterator[Open]:
    with opening("", tmp_path) as open_one:
        yield open_one


class TestSqlite(StoreSuite):
    pass


def test_an_empty_url_is_a_file_in_the_work_folder(tmp_path: Path) -> None:
    store = open_store("", tmp_path / "work")
    assert store.uri == f"sqlite:///{tmp_path}/work/transcripts.sqlite"
    again = open_store(store.uri, Path("/nowhere"))
    store.write(plan([started()]))
    assert again.read("c1") is not None
    store.close()
    again.close()


def test_a_relative_url_starts_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///calls.sqlite", Path("/nowhere")).close()
    assert (tmp_path / "calls.sqlite").exists()


def test_a_reader_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="no such file"):
        open_store("", tmp_path, create=False)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look at" * 100)
    with pytest.raises(NotReadyError, match=r"notes\.txt: file is not a database"):
        open_store(f"sqlite:///{path}", tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReadyError, match="file/calls"):
        open_store(f"sqlite:///{tmp_path}/file/calls.sqlite", tmp_path)


def test_a_database_without_tables_is_no_store_for_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "empty.sqlite"
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(NotReadyError, match="no callscribe tables"):
        open_store(f"sqlite:///{path}", tmp_path, create=False)


@pytest.mark.parametrize("url", ["mysql://u:secret@host/db", "transcripts.sqlite", "sqlite:///", "sqlite://"])
def test_other_urls_are_wrong_usage(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_what_was_committed_survives_a_power_failure(tmp_path: Path) -> None:
    store = open_store("", tmp_path)
    store.write(plan(whole_call()))
    connection = store._connection  # type: ignore[attr-defined]
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_a_small_part_of_the_file_is_kept_in_memory(tmp_path: Path) -> None:
    """SQLite's default of 2 MB would fill with every row that is written, in the process of the sink as in those that read."""
    store = open_store("", tmp_path)
    connection = store._connection  # type: ignore[attr-defined]
    assert connection.execute("PRAGMA cache_size").fetchone() == (-512,)  # kilobytes
    store.close()
