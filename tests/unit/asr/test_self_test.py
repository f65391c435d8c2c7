from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.asr.engine import WhisperEngine
from pipeline.asr.hypothesis import AsrWork, Hypothesis, HypothesisWord
from pipeline.asr.loading import ModelFiles, resolve_model
from pipeline.asr.profiles import ModelProfile
from pipeline.asr.self_test import check_model
from pipeline.core.errors import NotReadyError
from tests.unit.asr.models import make_model, profile


@dataclass
class Saying:
    """A model that always says the same."""

    text: str = "Hello there."
    score: float = -0.1
    no_speech: float = 0.0
    max_batch: int = 1
    asked: list[AsrWork] = field(default_factory=list)

    def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
        self.asked += batch
        words = tuple(
            HypothesisWord(text=word, tokens=(1,), frames=(0,), end_frame=1, log_probabilities=(self.score,))
            for word in self.text.split()
        )
        return [Hypothesis(words=words, end_frame=1, no_speech_probability=self.no_speech) for _ in batch]


def files(folder: Path, **card: Any) -> ModelFiles:
    return ModelFiles(name="m", folder=folder, digest="0" * 12, card=card, languages=("de",))  # type: ignore[arg-type]


def recorded(folder: Path, *, rate: int = 16_000, channels: int = 1, seconds: float = 1.0) -> dict[str, str]:
    """Write a recording; return the card's self_test."""
    soundfile.write(folder / "test.wav", np.zeros((round(rate * seconds), channels), dtype=np.int16), rate)
    return {"audio": "test.wav", "language": "de", "text": "Hello there."}


GERMAN = profile("m", languages=("de", "nl"))


@pytest.mark.parametrize("mode", ["basic", "strict"])
def test_the_text_in_the_card_is_compared(tmp_path: Path, mode: Any) -> None:
    found = files(tmp_path, self_test=recorded(tmp_path))
    model = Saying()
    assert check_model(model, GERMAN, found, mode) == "text"
    assert [(len(work.audio), work.language, work.model) for work in model.asked] == [(16_000, "de", "m")]
    with pytest.raises(NotReadyError, match=r"self-test of model 'm': .* writes 'Good bye\.', .* says 'Hello there\.'"):
        check_model(Saying("Good bye."), GERMAN, found, mode)


def test_without_a_text_basic_looks_at_the_scores_of_real_speech(tmp_path: Path) -> None:
    model = Saying("whatever")
    assert check_model(model, GERMAN, files(tmp_path), "basic") == "scores"
    assert np.abs(model.asked[0].audio).max() > 1_000
    assert model.asked[0].language == "de"
    assert check_model(Saying(""), GERMAN, files(tmp_path), "basic") == "scores"


def test_without_a_text_strict_fails(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"self_test is strict, and .* has no card\.json with a self_test"):
        check_model(Saying(), GERMAN, files(tmp_path), "strict")


@pytest.mark.parametrize(
    "model",
    [
        Saying(score=math.nan),
        Saying(score=-math.inf),
        Saying(score=math.log(1e-10)),
        Saying(no_speech=math.nan),
        Saying("", no_speech=math.inf),
    ],
)
def test_scores_that_are_no_numbers_fail(tmp_path: Path, model: Saying) -> None:
    with pytest.raises(NotReadyError, match="its scores are not finite numbers"):
        check_model(model, GERMAN, files(tmp_path), "basic")


def test_off_asks_nothing(tmp_path: Path) -> None:
    model = Saying(score=math.nan)
    assert check_model(model, GERMAN, files(tmp_path, self_test=recorded(tmp_path)), "off") == "nothing"
    assert model.asked == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rate": 8_000}, "is not mono, 16000 Hz"),
        ({"channels": 2}, "is not mono, 16000 Hz"),
        ({"seconds": 29.0}, "at most 28 s long"),
        ({"seconds": 0.0}, "is not mono, 16000 Hz"),
    ],
)
def test_a_recording_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(NotReadyError, match=complaint):
        check_model(Saying(), GERMAN, files(tmp_path, self_test=recorded(tmp_path, **changes)), "basic")


def test_a_recording_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    found = files(tmp_path, self_test=recorded(tmp_path))
    (tmp_path / "test.wav").write_bytes(b"RIFF")
    with pytest.raises(NotReadyError, match=r"the recording .*test\.wav cannot be read"):
        check_model(Saying(), GERMAN, found, "basic")
    (tmp_path / "test.wav").unlink()
    with pytest.raises(NotReadyError, match=r"the recording .*test\.wav cannot be read"):
        check_model(Saying(), GERMAN, found, "basic")


def check_folder(folder: Path, language_of: ModelProfile, mode: Any) -> str:
    return check_model(WhisperEngine(str(folder), language_of), language_of, resolve_model(str(folder)), mode)


def test_the_shipped_model_passes_strictly() -> None:
    found = resolve_model("demo")
    assert check_folder(found.folder, profile("demo", languages=("en",), is_multilingual=True), "strict") == "text"


def test_random_weights_pass_and_broken_ones_do_not(tmp_path: Path) -> None:
    for is_english in (True, False):
        sound = make_model(tmp_path / f"sound-{is_english}", is_english=is_english)
        assert check_folder(sound, profile(), "basic") == "scores"
        broken = make_model(tmp_path / f"broken-{is_english}", is_english=is_english, gain=math.nan)
        with pytest.raises(NotReadyError, match="its scores are not finite numbers"):
            check_folder(broken, profile(), "basic")


def test_a_model_with_other_weights_fails_the_card_of_the_shipped_one(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "random")
    shipped = resolve_model("demo")
    found = replace(shipped, card={"self_test": {**shipped.card["self_test"]}})
    engine = WhisperEngine(str(folder), profile("demo"))
    with pytest.raises(NotReadyError, match="and its card says 'Good afternoon, how may I help you"):
        check_model(engine, profile("demo"), found, "basic")
