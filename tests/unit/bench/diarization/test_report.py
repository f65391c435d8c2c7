"""The document, the table and the timelines of figures made by hand."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from rich.console import Console

from pipeline.bench.diarization.figures import Accuracy, Compared, Cost, Count, DiarizationErrors, RecordingFigures
from pipeline.bench.diarization.plot import NOBODY, svg
from pipeline.bench.diarization.recordings import speech_of
from pipeline.bench.diarization.report import ALL, document, table
from pipeline.bench.diarization.running import Speakers

SVG = "{http://www.w3.org/2000/svg}"


def figures(
    name: str, *, total: float = 10.0, confusion: float = 1.0, found: int = 2, has_words: bool = True
) -> RecordingFigures:
    errors = DiarizationErrors(total=total, confusion=confusion)
    accuracy = Accuracy(
        strict=errors,
        forgiving=DiarizationErrors(total=total - 2),
        has_words=has_words,
        word_errors=Count(errors=2, of=10),
        label_changes=Count(errors=1, of=4),
        speakers=found,
    )
    output = speech_of([("s1", 0.0, 5.0), ("s2", 5.0, 10.0), ("unknown", 11.0, 12.5), ("s3", 15.0, 16.0)])
    return RecordingFigures(
        name=name,
        group=name.rpartition("-")[0],
        reference=speech_of([("A", 0.0, 6.0), ("B", 6.0, 10.0)]),
        output=output,
        accuracy=accuracy,
        cost=Cost(audio_seconds=20.0, cpu_seconds=2.0, wall_seconds=1.0),
        latencies=(0.5, 0.6, 2.0),
        never_final=1,
    )


def test_groups_are_of_sums_and_not_of_means() -> None:
    made = [
        figures("two-01"),
        figures("two-02", total=30.0, confusion=9.0, found=3),
        figures("one-01", has_words=False),
    ]
    found = document(made, engine="diart", speakers=Speakers(least=2, most=4), unreferenced=["x.wav"])
    assert json.loads(json.dumps(found)) == found
    assert (found["engine"], found["min_speakers"], found["max_speakers"]) == ("diart", 2, 4)
    assert found["unreferenced"] == ["x.wav"]
    assert [row["name"] for row in found["recordings"]] == ["two-01", "two-02", "one-01"]
    two = found["groups"]["two"]
    assert two["diarization_error"]["collar_0"] == {
        "rate": 0.25,
        "missed_seconds": 0.0,
        "false_alarm_seconds": 0.0,
        "confusion_seconds": 10.0,
        "total_seconds": 40.0,
    }
    assert two["recordings"] == 2
    assert two["right_number_of_speakers"] == 1
    assert two["speaker_error"] == {"unit": "words", "count": 20, "errors": 4, "rate": 0.2}
    assert two["label_changes"] == {"turns": 8, "changes": 2, "rate": 0.25}
    assert two["latency_seconds"] == {"p50": 0.6, "p95": 2.0, "slices": 6, "never_final": 2}
    assert two["real_time_factor"] == 0.05
    assert two["cpu_seconds_per_audio_second"] == 0.1
    assert found[ALL]["audio_seconds"] == 60.0
    assert found[ALL]["speaker_error"]["unit"] == "words and slices"
    assert found["recordings"][0]["unknown_seconds"] == 1.5
    assert found["recordings"][0]["baseline"] is None


def rendered(found: dict[str, object]) -> str:
    console = Console(width=110)
    with console.capture() as capture:
        console.print(table(found))
    return capture.get()


def test_the_table_has_a_row_per_recording_and_group_and_fits_a_terminal() -> None:
    text = rendered(document([figures("two-01"), figures("two-02")], engine="diart", speakers=Speakers()))
    assert [line.split()[0] for line in text.splitlines() if line[:3] in ("two", "all")] == [
        "two-01",
        "two-02",
        "two-*",
        "all",
    ]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "0.60 / 2.00" in text
    assert "1/4" in text


def test_the_baseline_stands_below_its_recording() -> None:
    from dataclasses import replace

    one = figures("two-01")
    compared = Compared(output=one.output, accuracy=replace(one.accuracy, speakers=4), cost=one.cost)
    found = document([replace(one, baseline=compared)], engine="diart", speakers=Speakers())
    assert found["recordings"][0]["baseline"]["found_speakers"] == 4
    assert found[ALL]["baseline"]["diarization_error"]["collar_0"]["rate"] == 0.1
    assert rendered(found).count("diart") == 3
    assert "diart" in svg([replace(one, baseline=compared)])


def test_nobody_speaks() -> None:
    silent = RecordingFigures(name="s", group="s", reference={}, output={}, accuracy=Accuracy(), cost=Cost())
    found = document([silent], engine="diart", speakers=Speakers())
    assert found[ALL]["diarization_error"]["collar_0"]["rate"] is None
    assert found[ALL]["latency_seconds"]["p50"] is None
    assert "-" in rendered(found)
    assert ElementTree.fromstring(svg([silent])).tag == f"{SVG}svg"


def test_timelines_have_a_lane_per_speaker_and_label_in_the_colours_of_the_speakers() -> None:
    root = ElementTree.fromstring(svg([figures("two-01"), figures("<&>-02")]))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "<&>-02   DER 10.0 %" in texts
    assert [texts.count(name) for name in ("reference", "output", "A", "s1", "unknown")] == [2, 2, 2, 2, 2]
    bars = [element for element in root.iter(f"{SVG}rect") if element.get("x")]
    colours = [element.get("fill") for element in bars][:6]
    assert colours[2] == colours[0]  # s1 is mostly A
    assert colours[3] == colours[1]  # s2 mostly B: 4 s of 5
    assert colours[4:] == [NOBODY, NOBODY]  # s3 speaks with nobody of the reference; unknown
    width = float(str(root.get("width")))
    assert all(float(str(bar.get("x"))) + float(str(bar.get("width"))) <= width for bar in bars)


def test_nothing_cannot_be_plotted() -> None:
    with pytest.raises(ValueError, match="nothing to plot"):
        svg([])
