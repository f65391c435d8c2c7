"""The shipped model is replaced only by one that is better."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.core.errors import FailedError, UsageError
from pipeline.core.wer import WordErrors
from pipeline.demo.assets import MODEL
from pipeline.demo.make_card import SENTENCE
from pipeline.demo.training import adopt
from pipeline.demo.training.adopt import FILES, MODEL_CARD, SECTION, described, shortcomings
from pipeline.demo.training.evaluate import Evaluation, Heard

LIMIT = -2.0


def evaluation(demo: int = 3, hard: int = 50, *, speech: float = -1.0, music: float = -2.4) -> Evaluation:
    return Evaluation(
        errors={"demo": WordErrors(errors=demo, words=585), "bench hard": WordErrors(errors=hard, words=750)},
        sounds={
            "silence": Heard(no_speech_probability=0.1, mean_log_probability=-0.5, text=""),
            "music": Heard(no_speech_probability=0.0, mean_log_probability=music, text="order old"),
            "speech": Heard(no_speech_probability=0.0, mean_log_probability=speech, text=SENTENCE),
        },
    )


@pytest.mark.parametrize("better", [evaluation(2), evaluation(3, 49), evaluation(0, 0)])
def test_fewer_errors_are_better(better: Evaluation) -> None:
    assert shortcomings(evaluation(), better, LIMIT, SENTENCE) == []


@pytest.mark.parametrize(
    ("candidate", "text", "reason"),
    [
        (evaluation(), SENTENCE, "no set of calls has fewer errors"),
        (evaluation(4, 0), SENTENCE, "demo has 4 errors instead of 3"),
        (evaluation(0, 51), SENTENCE, "bench hard has 51 errors instead of 50"),
        (evaluation(2, music=-1.9), SENTENCE, "music is taken for speech"),
        (evaluation(2, speech=-2.1), SENTENCE, "speech is not taken for speech"),
        (evaluation(2), "Good.", "its self-test text is not what is spoken"),
    ],
)
def test_what_is_not_better_is_named(candidate: Evaluation, text: str, reason: str) -> None:
    assert shortcomings(evaluation(), candidate, LIMIT, text) == [reason]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return a candidate and a shipped model, whose files say whose they are."""
    for name in ("candidate", "shipped"):
        (tmp_path / name).mkdir()
        for file in FILES:
            (tmp_path / name / file).write_text(name)
        card = {"min_mean_log_probability": LIMIT, "self_test": {"text": SENTENCE}, "of": name}
        (tmp_path / name / "card.json").write_text(json.dumps(card))
    (tmp_path / "shipped" / MODEL_CARD).write_text(f"# Card\n{SECTION}\nold figures\n\n## Limits\nnone\n")
    return tmp_path / "candidate", tmp_path / "shipped"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_better_model_replaces_every_file(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, shipped = folders
    monkeypatch.setattr(adopt, "evaluate", lambda model: evaluation(2 if model == candidate else 3))
    lines = list(adopt.adopt(candidate, shipped))
    found = contents(shipped)
    card = found.pop(MODEL_CARD).decode()
    assert found == contents(candidate)
    assert "old figures" not in card
    assert "| demo | 585 | 2 |" in card
    assert card.endswith("\n\n## Limits\nnone\n")
    assert any(line == "demo: 3 errors shipped, 2 new" for line in lines)


def test_model_that_is_not_better_replaces_nothing(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, shipped = folders
    before = contents(shipped)
    monkeypatch.setattr(adopt, "evaluate", lambda model: evaluation(4 if model == candidate else 3))
    with pytest.raises(FailedError, match="the shipped model stays: demo has 4 errors instead of 3"):
        list(adopt.adopt(candidate, shipped))
    assert contents(shipped) == before


@pytest.mark.parametrize("missing", ["model.bin", "self_test.flac"])
def test_folder_that_lacks_a_file_is_refused(folders: tuple[Path, Path], missing: str) -> None:
    candidate, shipped = folders
    (candidate / missing).unlink()
    with pytest.raises(UsageError, match=missing):
        list(adopt.adopt(candidate, shipped))


def test_card_of_the_shipped_model_has_the_section_and_keeps_the_others() -> None:
    card = (MODEL / MODEL_CARD).read_text(encoding="utf-8")
    new = described(card, evaluation(1))
    assert "| demo | 585 | 1 | 0.2% |" in new
    headings = [line for line in card.splitlines() if line.startswith("#")]
    assert [line for line in new.splitlines() if line.startswith("#")] == headings
    assert described(new, evaluation(1)) == new


def test_every_file_of_the_shipped_model_is_replaced() -> None:
    assert {path.name for path in MODEL.iterdir()} == {*FILES, MODEL_CARD}
