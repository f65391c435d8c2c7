from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from pipeline.asr.profiles import ModelProfile
from pipeline.bench.policy import plot, report
from pipeline.bench.policy.figures import RecordingFigures, StreamingFigures
from pipeline.bench.policy.live import LiveFigures
from pipeline.bench.policy.no_speech import Heard
from pipeline.bench.policy.variants import Variant
from pipeline.bench.word_ends import TrueWord
from pipeline.core.wer import WordErrors

PROFILE = ModelProfile(name="demo", revision="demo@0123456789ab")
ALIGNATT, AGREEMENT = Variant(policy="alignatt"), Variant(policy="local_agreement")
SWEPT = (Variant(policy="alignatt", step_seconds=0.6, frame_threshold=10),)
SVG = "{http://www.w3.org/2000/svg}"


def streaming(errors: int, latency: float, **profile: Any) -> StreamingFigures:
    return StreamingFigures(
        errors=WordErrors(errors=errors, words=100),
        latencies=(latency, latency, latency + 1.0),
        shown=98,
        tail_words=10,
        erased=1,
        passes=12,
        tokens=240,
        cpu_seconds=0.5,
        degraded={"rejected_text:tone": 2},
        profile=replace(PROFILE, **profile),
    )


def recording(kind: str, *, offline: int, alignatt: int, agreement: int, latency: float = 0.6) -> RecordingFigures:
    return RecordingFigures(
        name=f"{kind}-1",
        kind=kind,
        audio_seconds=50.0,
        truth=(TrueWord(channel=0, text="hello", start_seconds=0.0, end_seconds=0.5),),
        offline=WordErrors(errors=offline, words=100),
        streaming=(
            streaming(alignatt, latency),
            streaming(agreement, 1.0, policy="local_agreement"),
            streaming(alignatt + 1, 0.4, step_seconds=0.6, frame_threshold=10),
        ),
    )


BOTH = (
    recording("plain", offline=1, alignatt=1, agreement=2),
    recording("hard", offline=7, alignatt=8, agreement=7),
)


def made(figures: tuple[RecordingFigures, ...] = BOTH, **runs: Any) -> dict[str, Any]:
    runs = {"live": {}, "kill": {}} | runs
    return report.document(figures, (ALIGNATT, AGREEMENT), SWEPT, **runs)


def row(document: dict[str, Any], policy: str) -> dict[str, Any]:
    return next(one for one in document["policies"] if one["policy"] == policy)


def is_met(document: dict[str, Any], policy: str, figure: str) -> bool:
    found = [one["is_met"] for one in document["targets"] if (one["policy"], one["figure"]) == (policy, figure)]
    assert len(found) == 1
    return bool(found[0])


def test_word_errors_are_told_by_kind_and_together_in_points_over_offline() -> None:
    document = made()
    assert document["offline"]["all"] == {"words": 200, "errors": 8, "word_error_rate": 0.04}
    rates = row(document, "alignatt")["word_error_rate"]
    assert {kind: rate["points_over_offline"] for kind, rate in rates.items()} == {
        "plain": 0.0,
        "hard": 1.0,
        "all": 0.5,
    }
    assert list(rates) == list(document["offline"]) == ["plain", "hard", "all"]


def test_targets_are_of_the_issue_and_each_kind_has_its_own() -> None:
    document = made()
    assert is_met(document, "alignatt", "word_error_rate.plain.points_over_offline")
    assert not is_met(document, "alignatt", "word_error_rate.hard.points_over_offline")
    assert not is_met(document, "local_agreement", "word_error_rate.plain.points_over_offline")
    assert is_met(document, "local_agreement", "word_error_rate.hard.points_over_offline")
    assert is_met(document, "alignatt", "latency_unaware_seconds.p50")
    assert not is_met(document, "alignatt", "latency_unaware_seconds.p95")
    assert is_met(document, "alignatt", "retracted_words")


def test_without_kinds_the_target_is_that_of_all() -> None:
    document = made((recording("", offline=1, alignatt=1, agreement=1),))
    assert list(document["offline"]) == ["all"]
    assert is_met(document, "alignatt", "word_error_rate.all.points_over_offline")


def test_live_figures_stand_with_their_policy_and_changed_words_miss_the_target() -> None:
    live = {"alignatt": LiveFigures(calls=2, shown=98, changed=0, latencies=(1.0, 2.0))}
    kill = {"alignatt": LiveFigures(calls=1, shown=50, changed=1, restarts=1)}
    document = made(live=live, kill=kill)
    found = row(document, "alignatt")
    assert found["latency_aware_seconds"] == {"p50": 1.0, "p95": 2.0, "p99": 2.0, "words": 2}
    assert found["live"] == {"calls": 2, "committed_words": 98, "changed_words": 0, "asr_restarts": 0}
    assert found["kill"]["changed_words"] == 1
    assert row(document, "local_agreement")["live"] is None
    assert is_met(document, "alignatt", "live.changed_words")
    assert not is_met(document, "alignatt", "kill.changed_words")


def test_cost_counts_per_second_of_all_audio() -> None:
    found = row(made(), "alignatt")
    assert found["cpu_seconds_per_audio_second"] == pytest.approx(1.0 / 100.0)
    assert (found["passes"], found["tokens"], found["erased_tail_share"]) == (24, 480, 0.1)
    assert found["degraded"] == {"rejected_text:tone": 4}


def test_the_parameters_are_those_in_force() -> None:
    document = made()
    assert [report.parameter(one) for one in document["policies"]] == ["25 frames", "n = 2"]
    swept = document["sweep"]
    assert [(one["step_seconds"], one["frame_threshold"], one["agreement"]) for one in swept] == [(0.6, 10, None)]
    assert document["model"] == "demo@0123456789ab"


def test_the_document_is_json_without_latencies_too() -> None:
    silent = replace(BOTH[0], truth=(), streaming=tuple(replace(one, latencies=()) for one in BOTH[0].streaming))
    document = made((silent,))
    assert json.loads(json.dumps(document)) == document
    assert row(document, "alignatt")["latency_unaware_seconds"] == {"p50": None, "p95": None, "p99": None, "words": 0}
    assert not any(one["figure"].startswith("latency") for one in document["targets"])
    assert report.points(document) == ()


def test_the_tables_hold_every_policy_and_the_sweep_in_eighty_columns() -> None:
    live = {"alignatt": LiveFigures(calls=2, shown=98, changed=0, latencies=(1.0, 2.0))}
    text = drawn(made(live=live))
    for expected in (
        "local_agreement",
        "+1.00 (0.5 missed)",
        "+0.00 (0.5 met)",
        "0 of 98 (0 met)",
        "10 frames",
        "7.00 %",
    ):
        assert expected in text
    assert "Traceback" not in text


def test_words_in_no_speech_are_counted_beside_their_target() -> None:
    heard = {
        "music": (Heard(words=0), Heard(words=2, refusals={"tone": 3})),
        "silence": (Heard(words=0), Heard(words=1)),
    }
    found = report.document(BOTH, [ALIGNATT], [], live={}, kill={}, no_speech={"alignatt": heard})
    (row,) = found["policies"]
    assert (row["no_speech"]["words"], row["no_speech"]["words_forced_open"]) == (0, 3)
    assert row["no_speech"]["sounds"]["music"]["refusals_forced_open"] == {"tone": 3}
    met = {target["figure"]: target["is_met"] for target in found["targets"]}
    assert (met["no_speech.words"], met["no_speech.words_forced_open"]) == (True, False)


def test_the_plot_joins_the_points_of_a_policy_and_step() -> None:
    document = made()
    assert [point.series for point in report.points(document)] == ["alignatt, step 0.6 s"]
    unswept = document | {"sweep": []}
    points = report.points(unswept)
    assert [(point.series, point.label) for point in points] == [
        ("alignatt, step 1.2 s", "25"),
        ("local_agreement, step 1.2 s", "2"),
    ]
    assert [point.word_error_rate for point in points] == [0.045, 0.045]


def test_the_plot_is_svg_with_a_mark_for_every_point_inside_the_axes() -> None:
    points = [
        plot.Point(
            series=f"s<{index % 2}>", label=str(index), latency_seconds=0.5 + index / 7, word_error_rate=0.01 * index
        )
        for index in range(8)
    ]
    root = ElementTree.fromstring(plot.svg(points, 0.02))
    marks = root.findall(f"{SVG}circle")
    assert len(marks) == len(points)
    assert len(root.findall(f"{SVG}polyline")) == 2
    for mark in marks:
        assert plot.LEFT <= float(mark.get("cx", "")) <= plot.WIDTH - plot.RIGHT
        assert plot.TOP <= float(mark.get("cy", "")) <= plot.HEIGHT - plot.BOTTOM
    heights = [float(mark.get("cy", "")) for mark in marks[:4]]
    assert heights == sorted(heights, reverse=True)  # more errors stand higher, and pixels count downwards
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert {"s<0>", "s<1>", "offline", "7"} <= set(texts)


@pytest.mark.parametrize("rate", [0.0, 0.03, 1.0])
def test_equal_points_can_be_plotted(rate: float) -> None:
    point = plot.Point(series="s", label="l", latency_seconds=1.0, word_error_rate=rate)
    assert ElementTree.fromstring(plot.svg([point, point], rate)).findall(f"{SVG}circle")


def test_nothing_cannot_be_plotted() -> None:
    with pytest.raises(ValueError, match="nothing to plot"):
        plot.svg([], 0.1)


def drawn(document: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=80)
    for table in report.tables(document):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]
