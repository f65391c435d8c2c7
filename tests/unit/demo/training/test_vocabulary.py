"""A part of Whisper's vocabulary spells the words of training as the whole does, and any other text somehow."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipeline.demo.assets import MODEL, WHISPER_TOKENIZER
from pipeline.demo.training.speech import draw_sentence
from pipeline.demo.training.vocabulary import TEXTS, Vocabulary, cut_vocabulary, forms_of

DOCUMENT = json.loads(WHISPER_TOKENIZER.read_text(encoding="utf-8"))
WHOLE = Tokenizer.from_file(str(WHISPER_TOKENIZER))


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return cut_vocabulary(DOCUMENT, TEXTS)


@pytest.fixture(scope="module")
def cut(vocabulary: Vocabulary) -> Any:
    return Tokenizer.from_str(json.dumps(vocabulary.document))


def test_words_come_in_every_case_and_without_fields_and_marks() -> None:
    assert forms_of(["May I, {name}?", "new"]) == {"May", "may", "I", "i", "new", "New"}


def test_every_form_of_a_word_is_spelled_as_before(cut: Any) -> None:
    for form in forms_of(TEXTS):
        for text in (form, f" {form}", f" {form}.", f" {form}, {form}?"):
            assert cut.encode(text).tokens == WHOLE.encode(text).tokens


@given(st.integers(), st.integers(1, 4))
def test_sentences_of_training_are_spelled_as_before(cut: Any, seed: int, count: int) -> None:
    source = random.Random(seed)
    text = "".join(f" {draw_sentence(source)}" for _ in range(count))
    assert cut.encode(text).tokens == WHOLE.encode(text).tokens


@given(st.text())
def test_any_other_text_can_be_spelled(cut: Any, text: str) -> None:
    assert cut.decode(cut.encode(text).ids) == text


def test_kept_ids_are_those_of_the_same_tokens_in_the_same_order(vocabulary: Vocabulary, cut: Any) -> None:
    assert list(vocabulary.kept) == sorted(set(vocabulary.kept))
    assert [cut.id_to_token(number) for number in range(cut.get_vocab_size())] == [
        WHOLE.id_to_token(number) for number in vocabulary.kept
    ]


def test_bytes_and_special_tokens_are_all_there(vocabulary: Vocabulary, cut: Any) -> None:
    assert vocabulary.kept[:256] == tuple(range(256))
    assert vocabulary.kept[-1608:] == tuple(range(50_257, 51_865))
    assert cut.encode("<|startoftranscript|><|en|>").tokens == ["<|startoftranscript|>", "<|en|>"]
    assert [token["content"] for token in vocabulary.document["added_tokens"]] == [
        token["content"] for token in DOCUMENT["added_tokens"]
    ]


def test_the_given_tokenizer_stays_whole(vocabulary: Vocabulary) -> None:
    assert json.loads(WHISPER_TOKENIZER.read_text(encoding="utf-8")) == DOCUMENT


def test_the_shipped_model_has_this_vocabulary(vocabulary: Vocabulary) -> None:
    assert json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8")) == vocabulary.document
    assert len(json.loads((MODEL / "vocabulary.json").read_text(encoding="utf-8"))) == len(vocabulary.kept) == 3551
