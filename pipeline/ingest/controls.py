"""Control records of a recording, from a file of JSON lines: what a live feed would have sent on the way.

{"at_seconds": 12.4, "kind": "hold", "active": true}
{"at_seconds": 30.0, "kind": "pause"}
{"at_seconds": 41.5, "kind": "resume"}
{"at_seconds": 55.0, "kind": "dtmf", "digits": "12#"}
{"at_seconds": 60.0, "kind": "transfer", "target": "billing"}
{"at_seconds": 61.0, "kind": "settings", "language": "de", "hot_words": ["Widerruf"]}
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_type_hints

from pipeline.core.errors import UsageError
from pipeline.core.languages import unknown_language
from pipeline.core.recognition import AUTOMATIC
from pipeline.ingest.chunks import BODIES, Control
from pipeline.ingest.feed import TimedControl


def read_controls(path: Path) -> tuple[TimedControl, ...]:
    """Return the control records of a file, in order of time. Raises UsageError naming the file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append(_parse(json.loads(line)))
            except json.JSONDecodeError as error:
                raise UsageError(f"{path}:{number}: not JSON ({error.msg})") from None
            except (ValueError, TypeError, KeyError) as error:
                raise UsageError(f"{path}:{number}: {error}") from None
    found.sort(key=lambda timed: timed.at_seconds)
    _check_pauses(found, path)
    return tuple(found)


def _parse(document: Any) -> TimedControl:
    if not isinstance(document, dict):
        raise ValueError("a line is one JSON object")
    values = dict(document)
    at_seconds, kind = values.pop("at_seconds", None), values.pop("kind", None)
    if isinstance(at_seconds, bool) or not isinstance(at_seconds, int | float) or not 0 <= at_seconds < float("inf"):
        raise ValueError("at_seconds must be a number of seconds from the start of the call")
    if kind not in BODIES:
        raise ValueError(f"kind must be one of {', '.join(BODIES)}")
    body_type = BODIES[kind]
    if body_type is None:
        if values:
            raise ValueError(f"{kind} takes no {', '.join(values)}")
        return TimedControl(at_seconds=float(at_seconds), control=Control(kind=kind))
    return TimedControl(at_seconds=float(at_seconds), control=Control(kind=kind, body=_body(kind, body_type, values)))


def _body(kind: str, body_type: type[Any], values: dict[str, Any]) -> Any:
    hints = get_type_hints(body_type)
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"{kind} takes {', '.join(hints)}, not {name}")
        if isinstance(value, list):
            values[name] = value = tuple(value)
            if not all(isinstance(item, str) for item in value):
                raise ValueError(f"{name} must be a list of texts")
        expected = {bool: bool, str: str, str | None: str}.get(hints[name], tuple)
        if value is not None and not isinstance(value, expected):
            raise ValueError(f"{name} must be {'a list of texts' if expected is tuple else expected.__name__}")
    missing = [
        item.name
        for item in dataclasses.fields(body_type)
        if item.default is dataclasses.MISSING and values.get(item.name) is None
    ]
    if missing:
        raise ValueError(f"{kind} needs {', '.join(missing)}")
    language = values.get("language") if kind == "settings" else None
    if language and language != AUTOMATIC and (problem := unknown_language(language)):
        raise ValueError(f"language: {problem}")
    return body_type(**values)


def _check_pauses(controls: list[TimedControl], path: Path) -> None:
    is_paused = False
    for timed in controls:
        if timed.control.kind in ("pause", "resume"):
            if (timed.control.kind == "pause") == is_paused:
                raise UsageError(f"{path}: {timed.control.kind} at {timed.at_seconds} s has no counterpart before it")
            is_paused = not is_paused
