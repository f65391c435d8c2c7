"""What is measured of a model: its errors on the shipped calls, and what it hears in sounds that are no speech."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.bench.recordings import recordings
from pipeline.core.errors import NotReadyError
from pipeline.core.wer import WordErrors
from pipeline.demo.assets import CALLS, MODEL
from pipeline.demo.baseline import RATE, RegionText
from pipeline.demo.training import evaluate
from pipeline.demo.training.evaluate import Evaluation, Heard, call_sets, sounds, table, write_evaluation

EVALUATION = Evaluation(
    errors={"demo": WordErrors(errors=3, words=585)},
    sounds={"silence": Heard(no_speech_probability=0.0612, mean_log_probability=-10.234, text="")},
)


def test_sets_hold_the_shipped_calls() -> None:
    assert [call.name for call in call_sets()["demo"]] == ["billing", "delivery", "internet"]
    assert all(name.startswith("bench") for name in call_sets() if name != "demo")


def test_sounds_are_five_seconds_and_audible() -> None:
    for name, audio in sounds().items():
        assert audio.dtype == np.float32
        assert name == "speech" or len(audio) == 5 * RATE
        assert name == "silence" or 0.02 < np.sqrt(np.mean(audio**2)) < 0.3
        assert np.abs(audio).max() <= 1


def test_shipped_model_hears_speech_and_its_limit_keeps_the_rest_out() -> None:
    card = json.loads((MODEL / "card.json").read_text(encoding="utf-8"))
    heard = dict(evaluate._heard(MODEL))
    assert heard["speech"].text == card["self_test"]["text"]
    for name, one in heard.items():
        assert (one.mean_log_probability >= card["min_mean_log_probability"]) == (name == "speech")


def test_errors_are_counted_per_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    call = recordings(CALLS)[0]
    regions = [RegionText(channel, 0.0, 1.0, call.text(channel)) for channel in (0, 1)]
    monkeypatch.setattr(evaluate, "offline_transcript", lambda path, model: regions)
    assert evaluate._errors([call], MODEL) == WordErrors(errors=0, words=call.words)
    regions[1] = regions[1]._replace(channel=0)
    assert evaluate._errors([call], MODEL).errors == 2 * len(call.text(1).split())


def test_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=tmp_path.name):
        evaluate.evaluate(tmp_path)


def test_figures_are_written_for_people_and_programs(tmp_path: Path) -> None:
    write_evaluation(EVALUATION, tmp_path)
    text = (tmp_path / "evaluation.md").read_text()
    assert text == table(EVALUATION) + "\n"
    assert "| demo | 585 | 3 | 0.5% |" in text
    assert '| silence | 0.06 | -10.2 | "" |' in text
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert document["calls"]["demo"] == {"words": 585, "errors": 3, "rate": 3 / 585}
    assert document["sounds"]["silence"]["mean_log_probability"] == -10.23
