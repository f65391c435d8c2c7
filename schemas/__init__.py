"""Avro records of callscribe: one ``.avsc`` per record is the only definition.

`schemas.records` holds frozen dataclasses generated from these files, `schemas.codec` the wire format.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RELEASED = FOLDER / "released"
PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}

# Record name -> fixed schema id where no registry is configured. Ids are never reused; a changed record keeps
# its id only until it is released (see README.md, "Changing a record").
REPOSITORY_IDS = {
    "CallAudio": 201,
    "CallSpeech": 202,
    "CallAnnotation": 203,
    "CallSegment": 204,
    "CallState": 205,
    "DeadLetter": 106,
    "LaneState": 207,
}


@cache
def raw_schemas() -> dict[str, dict[str, Any]]:
    """Return every record definition by its full name (``callscribe.Word``), as written in the files."""
    schemas = {}
    for path in sorted(FOLDER.glob("*.avsc")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        schemas[f"{schema['namespace']}.{schema['name']}"] = schema
    return schemas


@cache
def schema_text(name: str) -> str:
    """Return the self-contained JSON text of record ``name`` (``CallAudio``): each named type inlined where first used.

    Raises KeyError for an unknown name.
    """
    return json.dumps(_inline(f"callscribe.{name}", set()), separators=(",", ":"))


@cache
def released_ids() -> dict[int, tuple[str, str]]:
    """Return (version, record name) of every fixed id that a released version wrote; today's ids may be among them."""
    found: dict[int, tuple[str, str]] = {}
    for path in sorted(RELEASED.glob("*/ids.json"), key=lambda path: int(path.parent.name)):
        ids: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
        found |= {number: (path.parent.name, name) for name, number in ids.items()}
    return found


@cache
def released_schema_text(version: str, name: str) -> str:
    """Return the JSON text of record ``name`` as a released version wrote it. Raises KeyError where it did not."""
    path = RELEASED / version / f"{name}.avsc"
    if not path.exists():
        raise KeyError(f"{name} of release {version}")
    return json.dumps(json.loads(path.read_text(encoding="utf-8")), separators=(",", ":"))


def _inline(node: Any, seen: set[str]) -> Any:
    if isinstance(node, str):
        if node in PRIMITIVES or node in seen:
            return node
        seen.add(node)
        record = raw_schemas()[node]
        fields = [{**field, "type": _inline(field["type"], seen)} for field in record["fields"]]
        return {**record, "fields": fields}
    if isinstance(node, list):
        return [_inline(branch, seen) for branch in node]
    inner = "items" if node["type"] == "array" else "values"
    return {**node, inner: _inline(node[inner], seen)}
