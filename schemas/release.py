"""Keep the bytes and the schemas of a version for ever: ``python -m schemas.release VERSION``.

For every record that is written to a topic, ``released/VERSION/`` gets the writer's schema (``CallAudio.avsc``), its fixed id
(``ids.json``) and examples of its bytes (``CallAudio.audio.bin``); for the stages' own states, which lie unframed in a
LaneState, likewise. The tests decode them with today's reader. A released folder is never changed: the script refuses to write into one.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from typing import Any, Final

from schemas import RELEASED, REPOSITORY_IDS, raw_schemas, records, schema_text
from schemas.codec import Codec, encode_plain

LANES: Final = tuple(sorted(name for schema in raw_schemas().values() if (name := schema["name"]).endswith("Lane")))


def example(name: str, **fixed: Any) -> Any:
    """Return a record ``name`` (``Word``) with every field set to a value of its own; ``fixed`` fields as given."""
    fields = raw_schemas()[f"callscribe.{name}"]["fields"]
    value = {field["name"]: _value(field["type"], f"{name}.{field['name']}") for field in fields}
    return getattr(records, name).from_avro(value | fixed)


def examples() -> Iterator[tuple[str, Any]]:
    """Yield (file name, record): each record of a topic with each of its kinds, then one LaneState for every stage."""
    for name in REPOSITORY_IDS:
        fields = raw_schemas()[f"callscribe.{name}"]["fields"]
        kinds = [field["name"] for field in fields if _is_record(field["type"])] if name.startswith("Call") else []
        if not kinds:
            yield f"{name}.record", example(name)
        for kind in kinds:
            yield f"{name}.{kind}", example(name, kind=kind, **dict.fromkeys(set(kinds) - {kind}))
        if kinds:
            yield f"{name}.watermark", example(name, kind="watermark", **dict.fromkeys(kinds))
    for lane in LANES:
        yield f"LaneState.{lane}", example("LaneState", started=None, logic=encode_plain(example(lane)))


def release(version: str) -> int:
    """Write ``released/<version>/``; return the number of files. Raises FileExistsError when the version is released."""
    folder = RELEASED / version
    folder.mkdir(parents=True)
    codec = Codec()
    for name in (*REPOSITORY_IDS, *LANES):
        text = json.dumps(json.loads(schema_text(name)), indent=1, ensure_ascii=False)
        (folder / f"{name}.avsc").write_text(text + "\n", encoding="utf-8")
    (folder / "ids.json").write_text(json.dumps(REPOSITORY_IDS, indent=1) + "\n", encoding="utf-8")
    for name, record in examples():
        (folder / f"{name}.bin").write_bytes(codec.encode(record))
    return len(list(folder.iterdir()))


def main() -> int:
    """Release the version named on the command line."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        print("usage: python -m schemas.release VERSION (a number: 2)", file=sys.stderr)
        return 2
    try:
        count = release(sys.argv[1])
    except FileExistsError:
        print(f"schemas/released/{sys.argv[1]} is there already: a released version is never changed", file=sys.stderr)
        return 1
    print(f"schemas/released/{sys.argv[1]}: {count} files")
    return 0


def _is_record(node: Any) -> bool:
    return isinstance(node, list) and isinstance(node[1], str) and node[1].startswith("callscribe.")


def _value(node: Any, path: str) -> Any:
    """Return an Avro value of type ``node`` that depends on ``path`` alone."""
    if isinstance(node, list):
        return _value(node[1], path)
    if isinstance(node, dict):
        if node["type"] == "array":
            return [_value(node["items"], f"{path}[{index}]") for index in range(2)]
        return {"0": _value(node["values"], path)}
    if node.startswith("callscribe."):
        return example(node.removeprefix("callscribe.")).to_avro()
    number = zlib.crc32(path.encode())
    values = {
        "boolean": True,
        "int": number % 10_000,
        "long": number << 8,
        "float": 0.5,
        "double": 0.1,
        "bytes": path.encode() + bytes(range(256)),
        "string": f"{path} é 東",
    }
    return values[node]


if __name__ == "__main__":
    sys.exit(main())
