"""What the decoder is given and what it says, in tokens: prompts before the transcript, limits of new tokens, words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from faster_whisper.tokenizer import Tokenizer

from pipeline.asr.hypothesis import FRAME, AsrWork, HypothesisWord

MAX_CONTEXT = 448  # text positions of the Whisper decoder
MAX_EARLIER = MAX_CONTEXT // 2 - 1  # tokens before the start-of-transcript token, as in the reference implementation
MAX_GIVEN = MAX_CONTEXT // 4  # of them for hot words and prompt, so that the call's own text keeps its place
FEWEST_NEW_TOKENS = 16
TOKENS_PER_SECOND = 14
FRAMES_PER_SECOND = 16_000 // FRAME


def head_of(tokenizer: Tokenizer, work: AsrWork, encode: Callable[[str], list[int]]) -> list[int] | None:
    """Return the tokens before the window's own text: earlier text, then the start-of-transcript sequence.

    Hot words stand first, then the prompt, then the text of earlier windows (faster-whisper's order). Earlier text yields to a
    long ``work.prefix``. None when the prefix leaves no room for new text.
    """
    start = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
    room = MAX_CONTEXT - len(start) - len(work.prefix) - FEWEST_NEW_TOKENS
    if room <= 0:
        return None
    hot = encode(" " + " ".join(work.hot_words))[:MAX_GIVEN] if work.hot_words else []
    prompt = _last(encode(" " + work.prompt.strip()), MAX_GIVEN - len(hot)) if work.prompt else []
    given = [*hot, *prompt]
    earlier = _last([*given, *_last(work.prompt_tokens, MAX_EARLIER - len(given))], min(MAX_EARLIER, room - 2))
    return [tokenizer.sot_prev, *earlier, *start] if earlier else start


def text_limit(head: Sequence[int], work: AsrWork) -> int:
    """Return the most tokens that the window's text may have, prefix included: more is a loop, or more than the decoder takes."""
    spoken = FEWEST_NEW_TOKENS + TOKENS_PER_SECOND * work.frames // FRAMES_PER_SECOND
    wanted = max(len(work.prefix) + FEWEST_NEW_TOKENS, spoken)
    return min(wanted, MAX_CONTEXT - len(head) - 1)


def generate_length(head: Sequence[int], limit: int) -> int:
    """Return the ``max_length`` that makes CTranslate2 stop after ``limit`` tokens of text.

    It stops at ``min(max_length / 2, max_length - (len(head) - 1))`` tokens behind the head.
    """
    return max(2 * limit, limit + len(head) - 1)


def suppressed(tokenizer: Tokenizer, *, annotations: bool = True) -> list[int]:
    """Return the tokens that are never text: special ones, and the signs of ``annotations`` like [music]."""
    special = (
        tokenizer.transcribe,
        tokenizer.translate,
        tokenizer.sot,
        tokenizer.sot_prev,
        tokenizer.sot_lm,
        tokenizer.no_speech,
        tokenizer.no_timestamps,
    )
    signs = tokenizer.non_speech_tokens if annotations else ()
    return sorted({token for token in (*special, *signs) if token is not None})


def words_of(
    tokenizer: Tokenizer, tokens: list[int], begin: int, frames: Sequence[int], scores: Sequence[float]
) -> Iterator[HypothesisWord]:
    """Yield the words of the tokens from ``begin`` on; punctuation belongs to the word before it.

    ``frames`` [tokens + 1] are attended encoder frames, the last one that of the end of the text; ``scores`` [tokens] are log
    probabilities.
    """
    texts, groups = tokenizer.split_to_word_tokens([*tokens[begin:], tokenizer.eot])
    spans: list[tuple[str, int, int]] = []
    position = begin
    for text, group in zip(texts[:-1], groups[:-1], strict=True):
        end = position + len(group)
        if spans and _is_tied(text):
            spans[-1] = (spans[-1][0] + text, spans[-1][1], end)
        elif text.strip():
            spans.append((text, position, end))
        position = end
    for text, first, end in spans:
        yield HypothesisWord(
            text=text.strip(),
            tokens=tuple(tokens[first:end]),
            frames=tuple(frames[first:end]),
            end_frame=frames[end],
            log_probabilities=tuple(scores[first:end]),
            is_joined=not text.startswith(" "),
        )


def _is_tied(text: str) -> bool:
    """Return whether a piece of text is no word of its own: punctuation without a space before it, or nothing visible."""
    return not text.strip() or not (text.startswith(" ") or any(character.isalnum() for character in text))


def _last(tokens: Sequence[int], count: int) -> list[int]:
    return list(tokens[max(len(tokens) - count, 0) :]) if count > 0 else []
