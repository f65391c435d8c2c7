from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from pipeline.sink.exports import FORMATS
from pipeline.sink.exports.cues import MAX_CHARACTERS, MAX_SECONDS, cues
from pipeline.sink.exports.txt import to_line
from pipeline.sink.transcript import Transcript
from schemas.records import CallSegment
from tests.unit.sink.records_of_calls import corrected_call, ended, segment, started, whole_call

GOLDEN = Path(__file__).parent / "golden"


def of(*records: CallSegment) -> Transcript:
    return Transcript.from_records(records)


@pytest.mark.parametrize("name", FORMATS)
def test_a_call_in_every_format(name: str) -> None:
    expected = (GOLDEN / f"call.{name}").read_bytes()
    assert FORMATS[name](of(*whole_call())).encode() == expected


@pytest.mark.parametrize("name", FORMATS)
def test_a_call_without_words_in_every_format(name: str) -> None:
    text = FORMATS[name](of(started(), ended()))
    nothing = {"txt": "", "srt": "", "rttm": "", "vtt": "WEBVTT\n"}
    if name in nothing:
        assert text == nothing[name]
    elif name == "csv":
        assert text.count("\r\n") == 1
    else:
        assert json.loads(text)["segments"] == []


def test_csv_quotes_what_it_must() -> None:
    text = 'He said "no, never",\nthen left.'
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](of(segment(text=text))), newline="")))
    assert rows[0]["text"] == text
    assert rows[0]["segment_id"] == "c1/0/3360"


def test_captions_escape_markup() -> None:
    found = of(segment(text="a < b && c --> d", speaker="<Ann & Bob>"))
    assert "<v &lt;Ann &amp; Bob&gt;>a &lt; b &amp;&amp; c --&gt; d\n" in FORMATS["vtt"](found)


def test_line_breaks_do_not_end_a_caption_or_a_line() -> None:
    found = of(segment(text="one\n\ntwo\r\nthree"))
    assert FORMATS["srt"](found).splitlines()[2:] == ["agent: one two three"]
    assert FORMATS["vtt"](found).splitlines()[3:] == ["<v agent>one two three"]
    assert FORMATS["txt"](found).splitlines() == ["[00:00.4] agent: one two three"]


def test_long_segments_become_captions_that_can_be_read() -> None:
    text = " ".join(f"word{number}" for number in range(100))
    found = cues(of(segment(text=text), segment(channel=1, start=9000, text=text)))
    assert all(len(cue.text) <= MAX_CHARACTERS for cue in found)
    assert all(cue.end_ms - cue.start_ms <= MAX_SECONDS * 1000 for cue in found)
    assert [cue.start_ms for cue in found] == sorted(cue.start_ms for cue in found)
    for channel in (0, 1):
        assert " ".join(cue.text for cue in found if cue.channel == channel) == text


def test_a_caption_is_never_empty_or_without_duration() -> None:
    found = cues(of(segment(text=""), segment(start=9000, text="Yes.")))
    assert [cue.text for cue in found] == ["Yes."]
    assert all(cue.end_ms > cue.start_ms for cue in found)


def test_rttm_has_ten_fields_whatever_the_speaker_is_called() -> None:
    line = FORMATS["rttm"](of(segment(speaker="Ann  Lee"), segment(channel=1, speaker=""))).splitlines()
    assert [field.split() for field in line] == [
        ["SPEAKER", "c1", "1", "0.420", "0.450", "<NA>", "<NA>", "Ann_Lee", "<NA>", "<NA>"],
        ["SPEAKER", "c1", "2", "0.420", "0.450", "<NA>", "<NA>", "unknown", "<NA>", "<NA>"],
    ]


@pytest.mark.parametrize(
    ("start", "clock"), [(0, "00:00.0"), (59.96, "00:59.9"), (754.5, "12:34.5"), (3723, "1:02:03.0")]
)
def test_the_clock_of_a_line(start: float, clock: str) -> None:
    line = to_line(of(segment(start=round(start * 8000), text="Hi.")).segments[0])
    assert line == f"[{clock}] agent: Hi."


def test_people_are_shown_who_the_speakers_are_and_programs_their_labels() -> None:
    found = of(*corrected_call())
    assert FORMATS["txt"](found).splitlines() == [
        "[00:00.0] Ann: Thank you for calling.",
        "[00:01.0] customer: Hi.",
        "[00:02.0] Ann: How can I help?",
    ]
    assert "customer: Hi.\n" in FORMATS["srt"](found)
    assert "<v Ann>How can I help?\n" in FORMATS["vtt"](found)
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](found), newline="")))
    assert [row["speaker"] for row in rows] == ["Ann", "customer", "Ann"]
    assert [line.split()[7] for line in FORMATS["rttm"](found).splitlines()] == ["speaker_1", "speaker_2", "speaker_1"]


def test_a_line_says_that_it_was_corrected() -> None:
    assert to_line(of(segment(text="Hi.")).segments[0], "Ann", is_corrected=True) == "[00:00.4] Ann (corrected): Hi."
