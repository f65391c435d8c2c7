import random

import jiwer
import pytest

from pipeline.core.wer import WordErrors, normalise, word_error_rate


@pytest.mark.parametrize("seed", range(60))
def test_errors_equal_jiwer_on_random_words(seed: int) -> None:
    source = random.Random(seed)
    words = ["order", "bill", "one", "two", "three", "refund"][: source.randint(1, 6)]
    reference = [source.choice(words) for _ in range(source.randint(1, 40))]
    hypothesis = [source.choice([*words, "other"]) for _ in range(source.randint(0, 40))]

    measured = word_error_rate(reference, hypothesis)

    expected = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    assert measured.errors == expected.substitutions + expected.deletions + expected.insertions
    assert measured.words == len(reference)
    assert measured.rate == pytest.approx(expected.wer)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b c", "a c", 1),
        ("a c", "a b c", 1),
        ("a b c d", "b c d e", 2),
        ("a b", "", 2),
        ("", "a b", 2),
        ("", "", 0),
    ],
)
def test_errors_of_known_pairs(reference: str, hypothesis: str, errors: int) -> None:
    assert word_error_rate(reference.split(), hypothesis.split()).errors == errors


def test_an_empty_reference_has_a_finite_rate() -> None:
    assert word_error_rate([], []).rate == 0.0
    assert word_error_rate([], ["a", "b"]).rate == 2.0


def test_errors_of_calls_add_up() -> None:
    total = sum((WordErrors(errors=1, words=10), WordErrors(errors=3, words=30)), WordErrors(errors=0, words=0))
    assert total == WordErrors(errors=4, words=40)
    assert total.rate == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, my ORDER has not arrived.", ("hello", "my", "order", "has", "not", "arrived")),
        ("It’s 'fine' - isn't it?", ("it's", "fine", "isn't", "it")),
        ("twenty-one … 3", ("twenty", "one", "3")),
        ("Grüße, Straße!", ("grüße", "straße")),
        ("नमस्ते दुनिया।", ("नमस्ते", "दुनिया")),
        (" ' -- ' ", ()),
        ("", ()),
    ],
)
def test_normalise_keeps_words_only(text: str, words: tuple[str, ...]) -> None:
    assert normalise(text) == words
