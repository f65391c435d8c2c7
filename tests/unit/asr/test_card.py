import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.asr.card import read_card
from pipeline.demo.assets import MODEL

SELF_TEST = {"audio": "test.flac", "language": "de", "text": "Guten Tag."}


def written(folder: Path, **fields: Any) -> Path:
    (folder / "card.json").write_text(json.dumps(fields), encoding="utf-8")
    return folder


def test_a_folder_without_a_card_has_an_empty_one(tmp_path: Path) -> None:
    assert read_card(tmp_path) == {}


def test_the_shipped_card_is_valid() -> None:
    card = read_card(MODEL)
    assert (card["languages"], card["is_multilingual"]) == (["en"], True)
    assert (MODEL / card["self_test"]["audio"]).is_file()


def test_every_field_is_read_and_others_are_ignored(tmp_path: Path) -> None:
    fields = {
        "name": "ours",
        "sha256": "0" * 64,
        "bytes": 1,
        "languages": ["de", "nl"],
        "is_multilingual": True,
        "padding_seconds": 2,
        "min_mean_log_probability": -1.5,
        "prompt_tokens": 64,
        "policy": "local_agreement",
        "step_seconds": 0.6,
        "frame_threshold": 15,
        "agreement": 3,
        "self_test": SELF_TEST,
    }
    assert read_card(written(tmp_path, **fields, licence="MIT")) == fields


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("padding_seconds", "0.5", "padding_seconds: Input should be a valid number"),
        ("padding_seconds", 31, "padding_seconds: Input should be less than or equal to 30"),
        ("min_mean_log_probability", 0.1, "min_mean_log_probability: Input should be less than or equal to 0"),
        ("prompt_tokens", 225, "prompt_tokens: Input should be less than or equal to 224"),
        ("policy", "greedy", "policy: Input should be 'alignatt' or 'local_agreement'"),
        ("step_seconds", 0.1, "step_seconds: Input should be greater than or equal to 0.2"),
        ("frame_threshold", 2.5, "frame_threshold: Input should be a valid integer"),
        ("agreement", 1, "agreement: Input should be greater than or equal to 2"),
        ("is_multilingual", 1, "is_multilingual: Input should be a valid boolean"),
        ("bytes", True, "bytes: Input should be a valid integer"),
        ("sha256", "abc", "sha256: String should match pattern"),
        ("languages", [], "languages: List should have at least 1 item"),
        ("languages", "en", "languages: Input should be a valid array"),
        ("languages", ["en", "xx"], "languages.1: 'xx' is not a language code"),
        ("self_test", {"audio": "a.flac"}, "self_test.text: Field required"),
        (
            "self_test",
            {**SELF_TEST, "audio": "../a.flac"},
            "self_test.audio: must be the name of a file beside the card",
        ),
        ("self_test", {**SELF_TEST, "language": "xx"}, "self_test.language: 'xx' is not a language code"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path: Path, field: str, value: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"card\.json: ") as caught:
        read_card(written(tmp_path, **{field: value}))
    assert str(caught.value).startswith(f"{tmp_path / 'card.json'}: {complaint}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"3", "is not a JSON object"),
    ],
)
def test_what_is_no_card_is_called_so(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        read_card(tmp_path)


def test_a_card_that_cannot_be_read_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "card.json").mkdir()
    with pytest.raises(ValueError, match=r"card\.json cannot be read \(Is a directory\)"):
        read_card(tmp_path)
