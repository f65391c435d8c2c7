"""The bytes of every released version decode with today's reader, to what was written."""

from __future__ import annotations

import json
import struct
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

import schemas
from schemas import records, release
from schemas.codec import Codec, CodecError, RepositorySchemas, UnknownSchemaError, decode_plain, upgraded_plain

VERSIONS = sorted(release.RELEASED.iterdir(), key=lambda folder: int(folder.name))
SAMPLES = [path for version in VERSIONS for path in sorted(version.glob("*.bin"))]
NAMES = {*schemas.REPOSITORY_IDS, *release.LANES}


def ids_of(folder: Path) -> dict[str, int]:
    ids: dict[str, int] = json.loads((folder / "ids.json").read_text("utf-8"))
    return ids


def label(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def schema_of(folder: Path, name: str) -> Any:
    return fastavro.parse_schema(json.loads((folder / f"{name}.avsc").read_text("utf-8")))


def written(path: Path) -> dict[str, Any]:
    """Return the Avro value as its writer saw it."""
    body = BytesIO(path.read_bytes()[5:])
    value: dict[str, Any] = fastavro.schemaless_reader(body, schema_of(path.parent, path.stem.split(".")[0]), None)
    return value


def holds(today: Any, then: Any) -> bool:
    """Return whether ``today`` says all that ``then`` said; fields that were added since do not matter."""
    if isinstance(then, dict):
        return isinstance(today, dict) and all(key in today and holds(today[key], then[key]) for key in then)
    if isinstance(then, list):
        return len(today) == len(then) and all(holds(new, old) for new, old in zip(today, then, strict=True))
    return bool(today == then)


def test_something_is_released() -> None:
    assert [version.name for version in VERSIONS] == [str(number + 1) for number in range(len(VERSIONS))]
    assert VERSIONS
    for version in VERSIONS:
        assert {path.stem for path in version.glob("*.avsc")} >= set(schemas.REPOSITORY_IDS)
        assert {path.stem.split(".")[0] for path in version.glob("*.bin")} >= set(schemas.REPOSITORY_IDS)


@pytest.mark.parametrize("path", SAMPLES, ids=label)
def test_released_bytes_are_read(path: Path) -> None:
    name = path.stem.split(".")[0]
    data = path.read_bytes()
    assert struct.unpack(">bI", data[:5])[1] == ids_of(path.parent)[name]
    record = Codec().decode(data, getattr(records, name))
    assert holds(record.to_avro(), written(path))


@pytest.mark.parametrize("version", VERSIONS, ids=lambda folder: folder.name)
def test_a_record_that_was_changed_since_has_a_new_id(version: Path) -> None:
    """Without a registry the id alone says which schema wrote a value."""
    for name, number in ids_of(version).items():
        then = json.loads((version / f"{name}.avsc").read_text("utf-8"))
        is_changed = name not in schemas.REPOSITORY_IDS or then != json.loads(schemas.schema_text(name))
        assert is_changed == (schemas.REPOSITORY_IDS.get(name) != number), name
        assert json.loads(RepositorySchemas().schema_of(number)) == then


@pytest.mark.parametrize("path", [path for path in SAMPLES if path.stem.endswith("Lane")], ids=label)
def test_the_stages_states_in_released_lane_states_are_read(path: Path) -> None:
    name = path.stem.split(".")[1]
    logic = written(path)["logic"]
    then = fastavro.schemaless_reader(BytesIO(logic), schema_of(path.parent, name), None)
    upgraded = upgraded_plain(logic, name, int(path.parent.name))
    assert holds(decode_plain(upgraded, getattr(records, name)).to_avro(), then)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_is_written_today_is_read_by_the_last_release(name: str) -> None:
    """Workers are replaced one after the other: the old ones read what the new ones write."""
    writer = fastavro.parse_schema(json.loads(schemas.schema_text(name)))
    value = release.example(name).to_avro()
    out = BytesIO()
    fastavro.schemaless_writer(out, writer, value)
    out.seek(0)
    assert holds(value, fastavro.schemaless_reader(out, writer, schema_of(VERSIONS[-1], name)))


def test_an_id_from_the_future_is_told() -> None:
    with pytest.raises(UnknownSchemaError, match="newer"):
        RepositorySchemas().schema_of(max(schemas.REPOSITORY_IDS.values()) + 1000)


@pytest.mark.parametrize(("data", "version"), [(b"", 1), (b"\x02", 77)])
def test_a_state_that_no_release_wrote_is_unreadable(data: bytes, version: int) -> None:
    with pytest.raises(CodecError, match="VadLane of release"):
        upgraded_plain(data, "VadLane", version)


def test_a_release_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "RELEASED", tmp_path)
    assert release.release("2") == len(list((tmp_path / "2").iterdir()))
    with pytest.raises(FileExistsError):
        release.release("2")


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["x"], 2), (["1"], 1)])
def test_the_script_refuses(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["release", *arguments])
    assert release.main() == code
    assert capsys.readouterr().err
