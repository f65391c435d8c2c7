from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.asr.catalogue import catalogue, check_language, check_names, kept, offered
from pipeline.core.errors import NotReadyError, UsageError
from pipeline.core.languages import LANGUAGES
from pipeline.runtime.settings import AsrSettings
from tests.unit.asr.models import make_model, shipped_model


def settings(**changes: Any) -> AsrSettings:
    return AsrSettings.model_validate(changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shipped_model(tmp_path / "other")


def test_the_default_is_the_shipped_model_with_what_its_card_says() -> None:
    found = catalogue(settings())
    assert (found.default, list(found.profiles)) == ("demo", ["demo"])
    profile = found.find(None)
    assert profile is not None
    assert profile.revision.startswith("demo@d6dd37645cee")
    assert (profile.languages, profile.is_multilingual, profile.padding_seconds) == (("en",), True, 0.5)
    assert (profile.min_mean_log_probability, profile.sure_log_probability) == (-1.05, -0.8)
    assert (profile.step_seconds, profile.frame_threshold, profile.suppress_annotations) == (1.2, 4, False)


def test_calls_may_ask_for_every_offered_model_by_the_name_in_the_settings(folder: Path) -> None:
    found = catalogue(settings(models=[str(folder), "demo"]))
    assert list(found.profiles) == ["demo", str(folder)]
    other = found.find(str(folder))
    assert other is not None
    assert (other.name, other.revision) == (str(folder), "other@d6dd37645cee")
    assert found.find("small") is None


def test_settings_win_over_the_card_and_the_card_over_the_defaults(folder: Path) -> None:
    (folder / "card.json").write_text(
        json.dumps({"step_seconds": 0.6, "frame_threshold": 15, "policy": "local_agreement", "prompt_tokens": 64})
    )
    plain = catalogue(settings(model=str(folder))).find(None)
    bent = catalogue(settings(model=str(folder), frame_threshold=30, policy="alignatt", prompt_tokens=0)).find(None)
    assert plain is not None
    assert bent is not None
    assert (plain.step_seconds, plain.frame_threshold, plain.policy, plain.agreement) == (0.6, 15, "local_agreement", 2)
    assert (bent.step_seconds, bent.frame_threshold, bent.policy, bent.prompt_tokens) == (0.6, 30, "alignatt", 0)


def test_without_a_card_the_vocabulary_tells_the_languages(folder: Path, tmp_path: Path) -> None:
    whole, english = make_model(tmp_path / "whole"), make_model(tmp_path / "english", is_english=True)
    found = catalogue(settings(models=[str(whole), str(english), str(folder)], max_loaded=4)).profiles
    assert set(found[str(whole)].languages) == LANGUAGES - {"yue"}  # large-v3 alone has Cantonese
    assert found[str(english)].languages == found[str(folder)].languages == ("en",)
    assert not any(found[str(path)].is_multilingual for path in (whole, english, folder))


def test_a_card_tells_that_a_model_with_a_part_of_the_vocabulary_is_multilingual(folder: Path) -> None:
    (folder / "card.json").write_text(json.dumps({"is_multilingual": True}))
    with pytest.raises(NotReadyError, match="must name the languages"):
        catalogue(settings(model=str(folder)))
    (folder / "card.json").write_text(json.dumps({"is_multilingual": True, "languages": ["de", "en"]}))
    chosen = catalogue(settings(model=str(folder))).find(None)
    assert chosen is not None
    assert (chosen.is_multilingual, chosen.languages) == (True, ("de", "en"))


def test_a_card_cannot_make_a_vocabulary_without_languages_multilingual(tmp_path: Path) -> None:
    english = make_model(tmp_path / "english", is_english=True)
    tokens = json.loads((english / "vocabulary.json").read_text())
    (english / "vocabulary.json").write_text(json.dumps([token for token in tokens if token != "<|en|>"]))
    (english / "card.json").write_text(json.dumps({"is_multilingual": True}))
    with pytest.raises(NotReadyError, match=r"vocabulary\.json has no token of a language"):
        catalogue(settings(model=str(english)))


def test_a_card_cannot_promise_languages_that_the_vocabulary_lacks(tmp_path: Path) -> None:
    english = make_model(tmp_path / "english", is_english=True)
    (english / "card.json").write_text(json.dumps({"languages": ["en", "de"]}))
    with pytest.raises(NotReadyError, match=r"its card\.json names languages that its vocabulary lacks: de"):
        catalogue(settings(model=str(english)))


def test_a_vocabulary_in_lines_is_read_too(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "lines")
    tokens = json.loads((folder / "vocabulary.json").read_text())
    (folder / "vocabulary.json").unlink()
    (folder / "vocabulary.txt").write_text("\n".join(tokens) + "\n")
    found = catalogue(settings(model=str(folder))).find(None)
    assert found is not None
    assert set(found.languages) == LANGUAGES - {"yue"}


def test_one_bad_model_stops_all_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"model '.*/nowhere': no such folder"):
        catalogue(settings(models=[str(tmp_path / "nowhere")]))
    with pytest.raises(NotReadyError, match="model 'small': not in the cache, and downloads are off"):
        offered(settings(models=["small"], model_cache=str(tmp_path)), offline=True)


def test_names_are_taken_once_and_the_default_comes_first() -> None:
    asr = settings(model="a", models=["b", "a", "c", "b"], pinned=["c", "a"])
    assert asr.offered == ("a", "b", "c")
    assert kept(asr) == ("a", "c")


def test_a_pinned_model_must_be_offered() -> None:
    with pytest.raises(UsageError, match=r"asr\.pinned: model 'small' is neither asr\.model nor among asr\.models"):
        catalogue(settings(pinned=["small"]))


@pytest.mark.parametrize(
    ("models", "pinned", "max_loaded", "needed"),
    [
        ([], [], 1, None),
        (["b"], [], 2, None),
        (["b"], [], 1, 2),
        (["b"], ["b"], 2, None),
        (["b", "c"], ["b"], 2, 3),
        (["b", "c"], ["b", "c"], 2, 3),
    ],
)
def test_there_must_be_room_for_what_stays_and_one_more(
    models: list[str], pinned: list[str], max_loaded: int, needed: int | None
) -> None:
    asr = settings(model="a", models=models, pinned=pinned, max_loaded=max_loaded)
    if needed is None:
        check_names(asr)
        return
    with pytest.raises(UsageError, match=rf"asr\.max_loaded is {max_loaded}, but {needed} are needed"):
        check_names(asr)


@pytest.mark.parametrize("language", ["en", "auto"])
def test_a_language_that_the_model_knows_is_taken(language: str) -> None:
    check_language(settings(language=language), None, None)
    check_language(settings(), language, "demo")
    assert catalogue(settings(language=language)).find(None) is not None


def test_a_language_that_the_model_does_not_know_is_refused_before_audio_is_taken() -> None:
    text = "model 'demo' does not know language 'de'; it knows en"
    with pytest.raises(UsageError, match=text):
        check_language(settings(), "de", None)
    with pytest.raises(UsageError, match=text):
        check_language(settings(language="de"), None, None)
    with pytest.raises(UsageError, match=text):
        catalogue(settings(language="de"))


def test_a_model_that_is_elsewhere_is_not_asked_for_its_languages(tmp_path: Path) -> None:
    check_language(settings(models=["small"], model_cache=str(tmp_path)), "de", "small")
