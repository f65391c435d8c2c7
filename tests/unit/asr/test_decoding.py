"""What the decoder is given, and how its tokens become words."""

from __future__ import annotations

import pytest
import tokenizers
from faster_whisper.tokenizer import Tokenizer

from pipeline.asr import decoding
from pipeline.asr.decoding import MAX_CONTEXT, generate_length, head_of, suppressed, text_limit, words_of
from pipeline.demo.assets import WHISPER_TOKENIZER
from tests.unit.asr.models import window


@pytest.fixture(scope="module")
def spelling() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(WHISPER_TOKENIZER))


@pytest.fixture(scope="module")
def tokenizer(spelling: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer(spelling, True, task="transcribe", language="en")


def head(tokenizer: Tokenizer, **changes: object) -> list[int] | None:
    return head_of(tokenizer, window(**changes), tokenizer.encode)  # type: ignore[arg-type]


def test_without_earlier_text_the_head_is_the_start_sequence(tokenizer: Tokenizer) -> None:
    assert head(tokenizer) == [*tokenizer.sot_sequence, tokenizer.no_timestamps]


def test_hot_words_stand_before_the_prompt_and_the_prompt_before_the_call_s_own_text(tokenizer: Tokenizer) -> None:
    found = head(tokenizer, hot_words=("Contoso", "Fabrikam"), prompt=" About a refund. ", prompt_tokens=(400, 401))
    expected = [*tokenizer.encode(" Contoso Fabrikam"), *tokenizer.encode(" About a refund."), 400, 401]
    assert found == [tokenizer.sot_prev, *expected, *tokenizer.sot_sequence, tokenizer.no_timestamps]


def test_long_hot_words_and_prompts_leave_the_call_s_own_text_its_place(tokenizer: Tokenizer) -> None:
    earlier = tuple(range(1_000, 1_224))
    found = head(tokenizer, hot_words=("brand",) * 500, prompt="word " * 500, prompt_tokens=earlier)
    assert found is not None
    assert len(found) == 1 + decoding.MAX_EARLIER + 4
    own = earlier[-(decoding.MAX_EARLIER - decoding.MAX_GIVEN) :]
    assert tuple(found[1 + decoding.MAX_GIVEN : -4]) == own
    assert set(found[1 : 1 + decoding.MAX_GIVEN]) == set(tokenizer.encode(" brand"))


def test_of_a_long_prompt_the_end_is_kept(tokenizer: Tokenizer) -> None:
    found = head(tokenizer, prompt="word " * 500 + "end")
    assert found is not None
    assert found[-5] == tokenizer.encode(" end")[-1]
    assert len(found) == 1 + decoding.MAX_GIVEN + 4


@pytest.mark.parametrize("prefix", [0, 100, 300, 400, 427])
def test_everything_fits_into_the_decoder_with_room_for_new_text(tokenizer: Tokenizer, prefix: int) -> None:
    work = window(prefix=(100,) * prefix, prompt="word " * 500, prompt_tokens=(200,) * 224)
    found = head_of(tokenizer, work, tokenizer.encode)
    assert found is not None
    assert found[-4:] == [*tokenizer.sot_sequence, tokenizer.no_timestamps]
    limit = text_limit(found, work)
    assert limit >= prefix + decoding.FEWEST_NEW_TOKENS
    assert len(found) + limit < MAX_CONTEXT


@pytest.mark.parametrize("prefix", [428, 448, 1_000])
def test_a_prefix_without_room_behind_it_has_no_head(tokenizer: Tokenizer, prefix: int) -> None:
    assert head(tokenizer, prefix=(100,) * prefix) is None


def test_the_limit_grows_with_the_window_and_never_cuts_off_the_fewest_new_tokens() -> None:
    start = [1, 2, 3, 4]
    assert text_limit(start, window(2.0)) == 16 + 2 * 14
    assert text_limit(start, window(5.0, prefix=(100,) * 3)) == 16 + 5 * 14
    assert text_limit(start, window(2.0, prefix=(100,) * 90)) == 90 + 16


@pytest.mark.parametrize(("head_length", "limit"), [(4, 44), (230, 44), (4, 440), (230, 217), (1, 1)])
def test_ctranslate2_stops_at_the_limit(head_length: int, limit: int) -> None:
    length, step = generate_length([0] * head_length, limit), head_length - 1
    assert min(length // 2, length - step) == limit


def test_special_tokens_and_signs_of_annotations_are_suppressed(tokenizer: Tokenizer) -> None:
    tokens = suppressed(tokenizer)
    assert {tokenizer.sot, tokenizer.no_speech, tokenizer.no_timestamps, tokenizer.encode("♪")[0]} <= set(tokens)
    assert tokenizer.eot not in tokens
    assert not set(tokens) & set(tokenizer.encode(" Hello, what is it? I'm well."))


def spelt(tokenizer: Tokenizer, text: str, *, begin: int = 0) -> list[tuple[str, bool, tuple[int, ...]]]:
    tokens = tokenizer.encode(text)
    frames, scores = list(range(len(tokens) + 1)), [-0.1] * len(tokens)
    words = list(words_of(tokenizer, tokens, begin, frames, scores))
    assert [token for word in words for token in word.tokens] == tokens[begin:]
    assert [frame for word in words for frame in (*word.frames, word.end_frame)][-1:] == frames[-1:]
    return [(word.text, word.is_joined, word.frames) for word in words]


def test_tokens_become_words_with_their_punctuation(tokenizer: Tokenizer) -> None:
    found = spelt(tokenizer, ' He said, "don\'t" ... once!')
    assert [text for text, _, _ in found] == ["He", "said,", '"don\'t"', "...", "once!"]
    assert not any(is_joined for _, is_joined, _ in found)


def test_a_word_that_goes_on_behind_the_prefix_is_joined(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(" Thank you, antidisestablishment")
    found = spelt(tokenizer, " Thank you, antidisestablishment", begin=len(tokens) - 1)
    assert [is_joined for _, is_joined, _ in found] == [True]


def test_a_language_without_spaces_is_split_into_characters(spelling: tokenizers.Tokenizer) -> None:
    japanese = Tokenizer(spelling, True, task="transcribe", language="ja")
    found = spelt(japanese, "東京大学の先生")
    assert "".join(text for text, _, _ in found) == "東京大学の先生"
    assert all(is_joined for _, is_joined, _ in found)
    assert len(found) > 1
