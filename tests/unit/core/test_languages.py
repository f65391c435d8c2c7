"""The language list is the tokenizer's, and everything that takes a language refuses others."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import UsageError
from pipeline.core.languages import LANGUAGES
from pipeline.ingest.controls import read_controls
from pipeline.ingest.options import feed_options
from pipeline.runtime import settings


def test_the_list_is_the_tokenizers() -> None:
    tokenizer = pytest.importorskip("faster_whisper.tokenizer")
    assert set(tokenizer._LANGUAGE_CODES) == LANGUAGES


def test_an_unknown_language_is_wrong_usage(tmp_path: Path) -> None:
    controls = tmp_path / "controls.jsonl"
    controls.write_text('{"at_seconds": 1, "kind": "settings", "language": "xx"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="'xx'"):
        feed_options(language="xx")
    with pytest.raises(UsageError, match="'xx'"):
        read_controls(controls)
    with pytest.raises(UsageError, match=r"asr\.language.*'xx'"):
        settings.load(environment={"CALLSCRIBE_ASR__LANGUAGE": "xx"})


def test_a_variable_that_names_no_setting_is_refused() -> None:
    with pytest.raises(UsageError, match=r"CALLSCRIBE_ASR_MODEL.*asr\.model"):
        settings.load(environment={"CALLSCRIBE_ASR_MODEL": "small"})
