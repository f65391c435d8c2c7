from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from pipeline.cli.tail import LiveView, json_line, text_line
from schemas.records import CallAnnotation, Tail, Word, Words
from tests.unit.sink.records_of_calls import ended, envelope, gap, segment, speakers, started


def annotation(kind: str, *, channel: int = 0, **content: Any) -> CallAnnotation:
    return CallAnnotation(
        call_id="c1",
        kind=kind,
        channel=channel,
        sequence=0,
        start_sample=3360,
        sample_rate_hz=8000,
        capture_time_ms=0,
        stage="asr",
        **content,
    )


def words(*texts: str, start: int = 3360, channel: int = 0) -> CallAnnotation:
    made = tuple(
        Word(text=text, start_sample=start + 2000 * index, end_sample=start + 2000 * index + 1600, probability=0.5)
        for index, text in enumerate(texts)
    )
    content = Words(utterance=0, is_last=False, words=made, watermark_sample=0, model="demo@abc", policy="alignatt")
    return annotation("words", channel=channel, words=content)


def tail(text: str, channel: int = 0) -> CallAnnotation:
    return annotation("tail", channel=channel, tail=Tail(utterance=0, text=text))


def shown(view: LiveView) -> list[str]:
    console = Console(width=100, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(view.render())
        return [line.rstrip() for line in console.export_text().splitlines() if line.strip()]


def test_words_stand_until_their_segment_is_closed() -> None:
    view = LiveView()
    view.take(words("Thank", "you"))
    view.take(tail("for cal"))
    assert shown(view) == ["c1 0 Thank you for cal"]
    view.take(words("for", start=7360))
    assert shown(view) == ["c1 0 Thank you for"]
    view.take(words("Next", start=40_000))
    view.take(segment(text="Thank you for"))
    assert shown(view) == ["c1 0 Next"]
    view.take(segment(start=40_000, text="Next"))
    assert shown(view) == []


def test_a_correction_leaves_the_words_of_open_segments() -> None:
    view = LiveView()
    view.take(words("Next", start=40_000))
    view.take(segment(text="Thank you for", revision=1))
    view.take(speakers(("a", None, None, 1.0)))
    assert shown(view) == ["c1 0 Next"]


def test_channels_have_lines_of_their_own_and_the_end_clears_them() -> None:
    view = LiveView()
    view.take(tail("hello"))
    view.take(tail("yes", channel=1))
    assert shown(view) == ["c1 0 hello", "c1 1 yes"]
    view.take(tail(""))
    assert shown(view) == ["c1 1 yes"]
    view.take(ended())
    assert shown(view) == []


def test_lines_of_a_pipe() -> None:
    assert text_line(segment(text="Hello.")) == "c1 [00:00.4] agent: Hello."
    assert text_line(segment(text="Hello.", revision=1)) == "c1 [00:00.4] agent (corrected): Hello."
    known = (("a", "agent", "Ann", 1.0), ("b", "customer", None, 1.0), ("c", None, None, 1.0))
    assert text_line(speakers(*known)) == "c1 channel 0 speakers: a Ann (agent), b (customer), c"
    assert text_line(speakers()) == "c1 channel 0 speakers: nobody"
    assert text_line(started()) == "c1 started"
    assert text_line(gap()) == "c1 channel 0 gap (missing_audio)"
    assert text_line(ended()) == "c1 ended"
    assert text_line(envelope("c1", "watermark")) is None
    assert text_line(tail("maybe")) is None


def test_lines_of_json() -> None:
    def parsed(record: Any) -> Any:
        line = json_line(record)
        return None if line is None else json.loads(line)

    found = parsed(segment(text="Hello."))
    assert (found["type"], found["call_id"], found["channel"], found["text"]) == ("segment", "c1", 0, "Hello.")
    assert found["segment_id"] == "c1/0/3360"
    assert parsed(tail("maybe")) == {"type": "tail", "call_id": "c1", "channel": 0, "text": "maybe"}
    assert parsed(words("Hello", "you")) == {
        "type": "words",
        "call_id": "c1",
        "channel": 0,
        "text": "Hello you",
        "words": [
            {"text": "Hello", "start_seconds": 0.42, "end_seconds": 0.62, "probability": 0.5},
            {"text": "you", "start_seconds": 0.67, "end_seconds": 0.87, "probability": 0.5},
        ],
    }
    assert parsed(gap()) == {
        "type": "gap",
        "call_id": "c1",
        "channel": 0,
        "start_seconds": 9.0,
        "end_seconds": 9.4,
        "reason": "missing_audio",
    }
    assert parsed(segment(text="Hello.", revision=1))["revision"] == 1
    found = parsed(speakers(("a", "agent", None, 1.5)))
    assert (found["type"], found["channel"], found["unknown_words"], found["corrected_words"]) == ("speakers", 0, 4, 2)
    assert found["speakers"][0]["role"] == "agent"
    assert parsed(ended())["end_samples"] == {"0": 490_400, "1": 488_000}
    assert parsed(envelope("c1", "watermark")) is None
    assert parsed(words()) is None
