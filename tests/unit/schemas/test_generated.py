from __future__ import annotations

import dataclasses
import re
import sys
from typing import Any

import pytest

import schemas
from schemas import generate, records

NAMES = sorted(schema["name"] for schema in schemas.raw_schemas().values())


def fields_of(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = schemas.raw_schemas()[f"callscribe.{name}"]["fields"]
    return found


def test_the_records_are_up_to_date() -> None:
    assert generate.TARGET.read_text(encoding="utf-8") == generate.generate()


def test_check_tells(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert generate.main() == 0
    stale = tmp_path / "records.py"
    stale.write_text("", encoding="utf-8")
    monkeypatch.setattr(generate, "TARGET", stale)
    assert generate.main() == 1
    assert "out of date" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["generate"])
    assert generate.main() == 0
    assert stale.read_text(encoding="utf-8") == generate.generate()


@pytest.mark.parametrize("name", NAMES)
def test_every_record_and_field_is_documented(name: str) -> None:
    schema = schemas.raw_schemas()[f"callscribe.{name}"]
    assert schema["doc"].endswith(".")
    for field in schema["fields"]:
        assert field["doc"].strip(), field["name"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_holds_the_record_it_is_named_after(name: str) -> None:
    file = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    assert (schemas.FOLDER / f"{file}.avsc").exists()


@pytest.mark.parametrize("name", NAMES)
def test_the_class_has_the_fields_of_the_schema(name: str) -> None:
    kind = getattr(records, name)
    assert [field.name for field in dataclasses.fields(kind)] == [field["name"] for field in fields_of(name)]


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_may_be_null_is_null_by_default(name: str) -> None:
    """A reader that adds such a field later can still read what was written before."""
    for field in fields_of(name):
        if isinstance(field["type"], list):
            assert field["type"][0] == "null"
            assert field["default"] is None


def test_every_enveloped_record_is_self_contained() -> None:
    for name in schemas.REPOSITORY_IDS:
        assert "callscribe.Nothing" not in schemas.schema_text(name)
        assert schemas.schema_text(name).count(f'"name":"{name}"') == 1
    with pytest.raises(KeyError):
        schemas.schema_text("Nothing")


def test_the_readme_names_every_record_and_its_id() -> None:
    text = (schemas.FOLDER / "README.md").read_text(encoding="utf-8")
    for name, number in schemas.REPOSITORY_IDS.items():
        assert re.search(rf"^\| {name} \|.*\| {number} \|", text, re.MULTILINE), name
    for name in NAMES:
        assert re.search(rf"\b{name}\b", text), name
