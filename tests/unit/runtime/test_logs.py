from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from pipeline.runtime import logs


def record(message: str = "ready", **changes: Any) -> logging.LogRecord:
    made = logging.LogRecord("callscribe.worker", logging.INFO, "file", 1, message, (), None)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    vars(made).update(changes)
    return made


def test_json_is_one_object_a_line() -> None:
    line = logs.JsonFormatter("vad").format(record("two\nlines", partition=3))
    assert "\n" not in line
    fields = json.loads(line)
    assert fields == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "INFO",
        "stage": "vad",
        "logger": "callscribe.worker",
        "message": "two\nlines",
        "partition": 3,
    }


def test_json_names_the_error() -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        fields = json.loads(logs.JsonFormatter("vad").format(record(exc_info=sys.exc_info())))
    assert fields["error"] == "ValueError"
    assert "test_logs.py" in fields["trace"]


def test_plain_shows_the_extras() -> None:
    assert logs.PlainFormatter("asr").format(record(offset=7)).endswith("INFO    asr ready offset=7")


def test_libraries_speak_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    root, ours = logging.getLogger(), logging.getLogger("callscribe")
    before = (root.handlers[:], root.level, ours.level)
    try:
        logs.configure(stage="asr", level="INFO", style="json")
        logging.getLogger("callscribe.worker").info("heard")
        logging.getLogger("some.library").info("not heard")
        logging.getLogger("some.library").warning("heard")
    finally:
        root.handlers[:], root.level, ours.level = before
    written = capsys.readouterr()
    assert written.out == ""
    assert [json.loads(line)["logger"] for line in written.err.splitlines()] == ["callscribe.worker", "some.library"]


def test_what_is_said_again_and_again_is_counted() -> None:
    now = [0.0]
    repeats = logs.Repeats(10.0, clock=lambda: now[0])

    def passes(name: str, message: str) -> logging.LogRecord | None:
        made = logging.LogRecord(name, logging.ERROR, "file", 1, message, (), None)
        return made if repeats.filter(made) else None

    assert passes("aiokafka", "Unable to connect")
    assert [passes("aiokafka", "Unable to connect") for _ in range(5)] == [None] * 5
    assert passes("aiokafka", "something else")
    assert all(passes("callscribe.worker", "ours") for _ in range(3))
    now[0] = 10.0
    again = passes("aiokafka", "Unable to connect")
    assert again is not None
    assert vars(again)["repeats"] == 5
    for number in range(2 * logs.MAX_KINDS):
        passes("aiokafka", f"{number} is another one")
    assert len(repeats._held) <= logs.MAX_KINDS
