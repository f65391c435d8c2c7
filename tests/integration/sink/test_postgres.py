from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.sink.logic import plan
from pipeline.sink.stores import open_store
from tests.integration.postgres import PASSWORD, PostgresServer
from tests.unit.sink.records_of_calls import whole_call
from tests.unit.sink.stores.suite import Open, StoreSuite, opening

pytestmark = pytest.mark.integration
NUMBERS = itertools.count()


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """A schema of its own in the server."""
    name = f"test_{next(NUMBERS)}"
    with psycopg.connect(postgres.socket_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{postgres.socket_url}&options=-csearch_path%3D{name}"


@pytest.fixture
def open_it(url: str) -> Iterator[Open]:
    with opening(url, Path("/nowhere")) as open_one:
        yield open_one


class TestPostgres(StoreSuite):
    pass


def test_words_can_be_queried_as_json(url: str, open_it: Open) -> None:
    open_it().write(plan(whole_call()))
    with psycopg.connect(url) as connection:
        query = "SELECT words -> 0 ->> 'text' FROM segments WHERE channel = 1"
        assert connection.execute(query).fetchall() == [("Hi,",)]


def test_a_reader_needs_no_right_to_create(postgres: PostgresServer, url: str, open_it: Open) -> None:
    open_it().write(plan(whole_call()))
    schema = url.rpartition("%3D")[2]
    with psycopg.connect(postgres.socket_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE reader_{schema} LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader_{schema}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader_{schema}")
    store = open_store(url.replace("postgres@", f"reader_{schema}@"), Path("/nowhere"), create=False)
    assert store.read("c1") is not None
    with pytest.raises(NotReadyError, match="permission denied"):
        store.write(plan(whole_call("c2")))
    store.close()


def test_a_store_that_comes_back_is_used_again(postgres: PostgresServer, open_it: Open) -> None:
    store = open_it()
    store.write(plan(whole_call("before")))
    postgres.stop()
    try:
        with pytest.raises(NotReadyError):
            store.write(plan(whole_call("away")))
        with pytest.raises(NotReadyError):
            store.read("before")
    finally:
        postgres.start()
    store.write(plan(whole_call("after")))
    assert [summary.call.call_id for summary in store.calls()] == ["after", "before"]


def test_the_right_password_opens_and_is_not_shown(postgres: PostgresServer) -> None:
    store = open_store(postgres.tcp_url(), Path("/nowhere"))
    assert store.uri == f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres"
    store.close()


@pytest.mark.parametrize("fault", ["password", "port", "database", "host", "uri"])
def test_a_wrong_url_is_one_line_without_the_password(postgres: PostgresServer, fault: str) -> None:
    right = postgres.tcp_url()
    url = {
        "password": postgres.tcp_url("wrong secret"),
        "port": right.replace(str(postgres.port), "1"),
        "database": right.removesuffix("/postgres") + "/none",
        "host": right.replace("127.0.0.1", "host.invalid"),
        "uri": right.replace("127.0.0.1", "[::1"),
    }[fault]
    with pytest.raises(UsageError if fault == "uri" else NotReadyError) as caught:
        open_store(url, Path("/nowhere"))
    text = str(caught.value)
    assert PASSWORD not in text
    assert "wrong secret" not in text
    assert "horse" not in text
    assert "\n" not in text
