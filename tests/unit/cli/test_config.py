"""``callscribe config show``: every key once, its origin, and never a secret."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr
from typer.testing import CliRunner

from pipeline.cli.common import Context
from pipeline.cli.config import MASK, register, rows, shown
from pipeline.core.errors import UsageError
from pipeline.runtime import settings


def make_app() -> typer.Typer:
    app = typer.Typer()

    @app.callback()
    def root(context: typer.Context, config: Path | None = None) -> None:
        context.obj = Context(config=config)

    register(app)
    return app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("CALLSCRIBE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def show(*arguments: str) -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(make_app(), ["config", "show", "--json", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert list(document) == ["settings"]
    found: dict[str, dict[str, object]] = document["settings"]
    return found


def test_every_key_is_shown_once_in_order_with_its_default(folder: Path) -> None:
    found = show()
    assert tuple(found) == settings.known_keys()
    assert {row["origin"] for row in found.values()} == {"default"}
    assert found["asr.model"]["value"] == "demo"
    assert found["topics.partitions"]["value"] == 24


def test_origin_is_the_file_or_the_variable_and_the_variable_wins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "callscribe.toml").write_text('[asr]\nmodel = "small"\nlanguage = "de"\n', encoding="utf-8")
    monkeypatch.setenv("CALLSCRIBE_ASR__MODEL", "large-v3-turbo")
    found = show()
    assert found["asr.model"] == {"value": "large-v3-turbo", "origin": "CALLSCRIBE_ASR__MODEL"}
    assert found["asr.language"] == {"value": "de", "origin": "callscribe.toml"}
    assert found["asr.policy"]["origin"] == "default"


def test_changed_leaves_the_defaults_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSCRIBE_VAD__THRESHOLD", "0.4")
    assert show("--changed") == {"vad.threshold": {"value": 0.4, "origin": "CALLSCRIBE_VAD__THRESHOLD"}}


def test_flag_is_an_origin(folder: Path) -> None:
    found = rows(settings.load(environment={}, flags={"asr.model": "small", "broker.port": None}))
    assert found["asr.model"] == {"value": "small", "origin": "flag"}
    assert found["broker.port"]["origin"] == "default"


def test_no_secret_is_printed_in_either_form(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "CALLSCRIBE_KAFKA__SASL_PASSWORD": "hush-sasl",
        "CALLSCRIBE_KAFKA__SSL_KEY_PASSWORD": "hush-key",
        "CALLSCRIBE_SCHEMAS__REGISTRY_PASSWORD": "hush-registry",
        "CALLSCRIBE_SCHEMAS__REGISTRY_URL": "https://reader:hush-inline@registry:8081",
        "CALLSCRIBE_STORE__URL": "postgresql://me:hush-store@db:5432/calls?sslpassword=hush-ssl&sslmode=require",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        result = CliRunner().invoke(make_app(), arguments, catch_exceptions=False)
        assert result.exit_code == 0
        assert "hush" not in result.output
        assert f"postgresql://me:{MASK}@db:5432/calls?sslpassword={MASK}&sslmode=require" in result.output
        assert f"https://reader:{MASK}@registry:8081" in result.output


def test_plain_lines_are_key_value_origin(folder: Path) -> None:
    result = CliRunner().invoke(make_app(), ["config", "show"], catch_exceptions=False)
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == list(settings.known_keys())
    assert ["kafka.bootstrap_servers", '""', "default"] in lines


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", ""),
        ("sqlite:////var/lib/calls.sqlite", "sqlite:////var/lib/calls.sqlite"),
        ("postgresql://db/calls", "postgresql://db/calls"),
        ("postgresql://me@db/calls", "postgresql://me@db/calls"),
        ("postgresql://me:a@b@db/calls", f"postgresql://me:{MASK}@db/calls"),
        ("postgresql://me:a/b@db/calls", f"postgresql://{MASK}"),
        ("postgresql://db/calls?user=me&password=a@b", f"postgresql://{MASK}"),
        ("postgresql://db/calls?user=me&password=ab", f"postgresql://db/calls?user=me&password={MASK}"),
        ("host=db password=ab", MASK),
    ],
)
def test_store_url_loses_its_password_alone(url: str, expected: str) -> None:
    assert shown("store.url", SecretStr(url)) == expected


def test_unknown_key_names_the_nearest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSCRIBE_ASR__MODLE", "small")
    with pytest.raises(UsageError, match=r"asr\.modle.*asr\.model"):
        CliRunner().invoke(make_app(), ["config", "show"], catch_exceptions=False)


def test_help_has_an_example() -> None:
    result = CliRunner().invoke(make_app(), ["config", "show", "--help"], catch_exceptions=False)
    assert "callscribe config show" in result.output
