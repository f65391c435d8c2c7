"""What the operator types, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UsageError
from pipeline.ingest.chunks import Control
from pipeline.ingest.controls import read_controls
from pipeline.ingest.feed import TimedControl
from pipeline.ingest.formats import RawFormat
from pipeline.ingest.options import feed_options, raw_format
from schemas.records import Dtmf, Hold, Settings, Transfer


def test_raw_formats() -> None:
    assert raw_format(encoding=None, rate=None, channels=None) is None
    assert raw_format(encoding="mulaw", rate=None, channels=None) == RawFormat(encoding="mulaw")
    assert raw_format(encoding="pcm_s24le", rate=48000, channels=2) == RawFormat(
        encoding="pcm_s24le", sample_rate_hz=48000, channels=2
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"encoding": None, "rate": 8000, "channels": None}, "say --encoding too"),
        ({"encoding": "mp3", "rate": None, "channels": None}, "--encoding mp3 is not one of mulaw"),
        ({"encoding": "mulaw", "rate": 10, "channels": None}, "--rate 10 is not within"),
        ({"encoding": "mulaw", "rate": None, "channels": 0}, "--channels 0 is not within"),
        ({"encoding": "mulaw", "rate": None, "channels": 33}, "--channels 33 is not within"),
    ],
)
def test_raw_formats_that_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        raw_format(**values)


def test_options() -> None:
    options = feed_options(
        roles=["0=agent", "1=customer"],
        language="en",
        hot_words=["Ada"],
        attributes=["queue=a=b", "empty="],
        tenant="t",
    )
    assert options.roles == {0: "agent", 1: "customer"}
    assert options.attributes == {"queue": "a=b", "empty": ""}
    assert (options.hot_words, options.language, options.tenant) == (("Ada",), "en", "t")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"roles": ["agent"]}, "--role agent is not of the form NAME=VALUE"),
        ({"roles": ["x=agent"]}, "--role x=agent is not like 0=agent"),
        ({"roles": ["0="]}, "--role 0= is not like 0=agent"),
        ({"roles": ["0=a", "0=b"]}, "--role 0 is given twice"),
        ({"speakers": "two"}, "--speakers two is not like 2, 2-4 or auto"),
        ({"speakers": "2-"}, "--speakers 2- is not like"),
        ({"speakers": "0"}, "--speakers 0 is not within 1 to 20"),
        ({"speakers": "21"}, "--speakers 21 is not within 1 to 20"),
        ({"speakers": "4-2"}, "--speakers 4-2 is not within 1 to 20, the fewest first"),
        ({"attributes": ["=x"]}, "--attribute =x is not of the form"),
        ({"language": "English"}, "--language: .English. is not a language code"),
    ],
)
def test_options_that_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        feed_options(**values)


@pytest.mark.parametrize(
    ("text", "fewest", "most"), [(None, None, None), ("2", 2, 2), ("2-4", 2, 4), ("1-20", 1, 20), ("auto", 1, 20)]
)
def test_how_many_speakers_a_mixed_leg_has(text: str | None, fewest: int | None, most: int | None) -> None:
    options = feed_options(speakers=text)
    assert (options.min_speakers, options.max_speakers) == (fewest, most)


def test_controls_are_read_in_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "controls.jsonl"
    path.write_text(
        '{"at_seconds": 30, "kind": "resume"}\n'
        "\n"
        '{"at_seconds": 12.5, "kind": "hold", "active": true}\n'
        '{"at_seconds": 20.0, "kind": "pause"}\n'
        '{"at_seconds": 40, "kind": "dtmf", "digits": "12#"}\n'
        '{"at_seconds": 41, "kind": "transfer"}\n'
        '{"at_seconds": 42, "kind": "settings", "language": "de", "hot_words": ["Rechnung"]}\n',
        encoding="utf-8",
    )
    assert read_controls(path) == (
        TimedControl(at_seconds=12.5, control=Control(kind="hold", body=Hold(active=True))),
        TimedControl(at_seconds=20.0, control=Control(kind="pause")),
        TimedControl(at_seconds=30.0, control=Control(kind="resume")),
        TimedControl(at_seconds=40.0, control=Control(kind="dtmf", body=Dtmf(digits="12#"))),
        TimedControl(at_seconds=41.0, control=Control(kind="transfer", body=Transfer())),
        TimedControl(
            at_seconds=42.0, control=Control(kind="settings", body=Settings(language="de", hot_words=("Rechnung",)))
        ),
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "c.jsonl:1: not JSON"),
        ("[]", "c.jsonl:1: a line is one JSON object"),
        ('{"kind": "pause"}', "at_seconds must be a number"),
        ('{"at_seconds": -1, "kind": "pause"}', "at_seconds must be a number"),
        ('{"at_seconds": true, "kind": "pause"}', "at_seconds must be a number"),
        ('{"at_seconds": NaN, "kind": "pause"}', "at_seconds must be a number"),
        ('{"at_seconds": 1, "kind": "ended"}', "kind must be one of settings, hold"),
        ('{"at_seconds": 1, "kind": "hold"}', "hold needs active"),
        ('{"at_seconds": 1, "kind": "hold", "active": "yes"}', "active must be bool"),
        ('{"at_seconds": 1, "kind": "dtmf", "digit": "1"}', "dtmf takes digits, not digit"),
        ('{"at_seconds": 1, "kind": "settings", "hot_words": [1]}', "hot_words must be a list of texts"),
        ('{"at_seconds": 1, "kind": "settings", "hot_words": "a"}', "hot_words must be a list of texts"),
        ('{"at_seconds": 1, "kind": "pause", "active": true}', "pause takes no active"),
        ('{"at_seconds": 1, "kind": "resume"}', "resume at 1.0 s has no counterpart before it"),
    ],
)
def test_controls_that_are_refused(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(UsageError, match=reason):
        read_controls(path)


def test_a_file_of_controls_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_controls(tmp_path / "none.jsonl")


def test_a_call_may_ask_for_a_model_that_is_offered_and_for_a_detected_language() -> None:
    options = feed_options(model="small", offered_models=("demo", "small"), language="auto", task="translate")
    assert (options.model, options.language, options.task) == ("small", "auto", "translate")
    with pytest.raises(UsageError, match=r"--model large is not offered; .* offer demo, small"):
        feed_options(model="large", offered_models=("demo", "small"))
