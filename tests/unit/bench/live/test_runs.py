from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench.live.replays import without_ids
from pipeline.bench.live.runs import Length, LiveBench, _errors, _named_share, _recognisers, work_folder
from pipeline.bench.word_ends import TrueWord
from pipeline.runtime.settings import RuntimeSettings, Settings
from tests.unit.bench.live.calls import recording


def document(call_id: str, text: str) -> dict[str, Any]:
    segment = {"segment_id": f"{call_id}/0/0", "channel": 0, "text": text, "model": "m", "policy": "p"}
    return {"call_id": call_id, "segments": [segment]}


@pytest.fixture
def bench(tmp_path: Path) -> LiveBench:
    """Two recordings of two seconds, and no system."""
    return LiveBench(
        settings=Settings(runtime=RuntimeSettings(work_folder=str(tmp_path / "work"))),
        folder=tmp_path,
        recordings=[recording(name, tmp_path, seconds=2.0, spoken={0: [], 1: []}) for name in ("a", "b")],
        load="two_channel",
        different_calls=10,
        sample_seconds=5.0,
        is_kept=False,
        say=lambda text: None,
    )


def test_calls_outlast_the_window_and_are_written_once(bench: LiveBench) -> None:
    length = Length(spread_seconds=2.0, measure_seconds=3.0)
    plan = bench._plan(5, length, bench._composed(5, length))
    assert list(plan.recordings) == ["call-00-6s", "call-01-6s"]
    assert [call.recording for call in plan.calls[:3]] == ["call-00-6s", "call-01-6s", "call-00-6s"]
    files = {Path(one.path): Path(one.path).stat().st_mtime_ns for one in plan.recordings.values()}
    assert bench._plan(4, length, bench._composed(4, length)).recordings == plan.recordings
    assert {path: path.stat().st_mtime_ns for path in files} == files
    first_end = min(call.start_seconds for call in plan.calls) + length.call_seconds
    assert first_end >= plan.last_start_seconds + length.measure_seconds


def test_a_transcript_that_differs_from_its_replay_is_named(bench: LiveBench, tmp_path: Path) -> None:
    length = Length(spread_seconds=1.0, measure_seconds=1.0)
    plan = bench._plan(3, length, bench._composed(3, length))
    bench._expected |= {name: without_ids(document("replay", "hello there")) for name in plan.recordings}
    stored = {
        "live-0000": document("live-0000", "hello there"),
        "live-0001": document("live-0001", "hello where"),
    }  # live-0002 is not complete
    assert bench._differences(bench.settings, plan, stored) == ("live-0001",)
    folder = tmp_path / "work" / "differences"
    assert sorted(path.name for path in folder.iterdir()) == ["live-0001.expected.json", "live-0001.found.json"]
    assert json.loads((folder / "live-0001.found.json").read_text())["segments"][0]["text"] == "hello where"


def test_mixed_calls_are_planned_with_several_speakers_on_their_channel(bench: LiveBench) -> None:
    length = Length(spread_seconds=1.0, measure_seconds=1.0)
    assert not bench._plan(2, length, bench._composed(2, length)).has_mixed_channels
    bench.load = "mixed"
    plan = bench._plan(2, length, bench._composed(2, length))
    assert {name: one.roles for name, one in plan.recordings.items()} == {
        "mixed-00-3s": ("mixed",),
        "mixed-01-3s": ("mixed",),
    }
    assert plan.has_mixed_channels


def test_the_share_of_words_with_a_speaker_is_over_all_transcripts() -> None:
    def spoken(*segments: tuple[str, int]) -> dict[str, Any]:
        return {"segments": [{"speaker": speaker, "words": [{}] * words} for speaker, words in segments]}

    assert _named_share({"a": spoken(("S1", 3), ("unknown", 1)), "b": spoken(("S2", 4))}) == 0.875
    assert _named_share({"a": spoken()}) is None


def test_word_errors_add_up_over_calls_and_channels() -> None:
    spoken = {
        call_id: [
            TrueWord(channel=0, text=text, start_seconds=0.0, end_seconds=1.0) for text in ("Hello,", "there", "you.")
        ]
        for call_id in ("a", "b")
    }
    stored = {"a": document("a", "Hello there you"), "b": document("b", "hello here you")}
    errors = _errors(stored, spoken)
    assert errors is not None
    assert (errors.errors, errors.words) == (1, 6)
    assert _errors({}, spoken) is None
    assert _recognisers(stored) == ("m p",)


@pytest.mark.parametrize(
    ("error", "is_kept", "stays"),
    [
        (None, False, False),
        (None, True, True),
        (ValueError, False, True),
        (KeyboardInterrupt, False, False),
        (KeyboardInterrupt, True, True),
    ],
)
def test_the_folder_stays_when_it_is_wanted_or_something_failed(
    bench: LiveBench, error: type[BaseException] | None, is_kept: bool, stays: bool
) -> None:
    folder = None
    try:
        with work_folder(bench.settings, is_kept=is_kept) as folder:
            (folder / "log").write_text("x")
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert folder is not None
    assert folder.exists() is stays
