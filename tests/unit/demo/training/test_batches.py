"""Batches: tokens and targets of every form of example."""

from __future__ import annotations

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pipeline.demo.training import batches  # noqa: E402 - behind the check for torch
from pipeline.demo.training.augment import Example  # noqa: E402
from pipeline.demo.training.batches import (  # noqa: E402
    IGNORED,
    collate,
    draw_batch,
    letters,
    token_pairs,
    tokens_in_use,
    whisper_tokenizer,
)
from pipeline.demo.training.speech import Clip, Sentence, draw_sentence  # noqa: E402

SAID = (Sentence("Thank you.", 0.1, 0.9), Sentence("Goodbye.", 1.0, 1.5))
SILENCE = np.zeros(1600, dtype=np.float32)
START = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>"]


def names(tokens: list[int]) -> list[str]:
    return [str(whisper_tokenizer().tokenizer.id_to_token(token)) if token >= 0 else "-" for token in tokens]


def test_every_token_of_training_speech_is_in_use(source: random.Random) -> None:
    used = set(tokens_in_use())
    tokenizer = whisper_tokenizer()
    for _ in range(1000):
        assert set(tokenizer.encode(f" {draw_sentence(source)}")) <= used
    assert {tokenizer.sot, tokenizer.eot, tokenizer.no_speech, tokenizer.sot_prev, tokenizer.timestamp_begin} <= used
    assert tokenizer.timestamp_begin + 1500 in used
    assert tokenizer.tokenizer.token_to_id("<|de|>") not in used
    assert len(used) < 2500


def test_plain_example() -> None:
    inputs, targets = token_pairs(Example(audio=SILENCE, sentences=SAID))
    spoken = ["ĠThank", "Ġyou", ".", "ĠGoodbye", "."]
    assert names(inputs) == [*START, "<|notimestamps|>", *spoken]
    assert names(targets) == [*START[1:], "<|notimestamps|>", *spoken, "<|endoftext|>"]


def test_prompt_is_given_and_not_asked_for() -> None:
    inputs, targets = token_pairs(Example(audio=SILENCE, sentences=SAID[1:], prompt="Thank you."))
    assert names(inputs)[:5] == ["<|startofprev|>", "ĠThank", "Ġyou", ".", START[0]]
    assert names(targets)[:5] == ["-", "-", "-", "-", "<|en|>"]
    assert len(inputs) == len(targets)


def test_long_prompt_is_cut_at_its_front() -> None:
    inputs, _ = token_pairs(Example(audio=SILENCE, sentences=SAID, prompt="one two " * 100 + "three"))
    assert names(inputs).index(START[0]) == batches.PROMPT_TOKENS + 1
    assert names(inputs)[batches.PROMPT_TOKENS] == "Ġthree"


def test_timestamps_enclose_every_sentence() -> None:
    inputs, targets = token_pairs(Example(audio=SILENCE, sentences=SAID, has_timestamps=True))
    assert names(targets)[2:] == [
        *("<|0.10|>", "ĠThank", "Ġyou", ".", "<|0.90|>"),
        *("<|1.00|>", "ĠGoodbye", ".", "<|1.50|>", "<|endoftext|>"),
    ]
    assert "<|notimestamps|>" not in names(inputs)


def test_without_speech_the_start_says_so_and_the_end_follows() -> None:
    inputs, targets = token_pairs(Example(audio=SILENCE, is_speech=False))
    assert names(inputs) == [*START, "<|notimestamps|>"]
    assert names(targets) == ["<|nospeech|>", "-", "-", "<|endoftext|>"]


def test_speech_without_a_whole_word_is_an_empty_transcript() -> None:
    _, targets = token_pairs(Example(audio=SILENCE))
    assert names(targets) == ["<|en|>", "<|transcribe|>", "<|notimestamps|>", "<|endoftext|>"]


def test_letters_are_numbered_from_one() -> None:
    assert letters("Ab z'").tolist() == [1, 2, 27, 26, 28]
    assert letters("").tolist() == letters("?!").tolist() == []


def test_collated_rows_are_padded_and_only_tokens_are_scored() -> None:
    short = Example(audio=np.full(1600, 0.1, dtype=np.float32), sentences=SAID[1:])
    long = Example(audio=np.full(9600, 0.1, dtype=np.float32), sentences=SAID)
    batch = collate([short, long], samples=6400, has_empty_frames=True)
    assert batch.mel.shape == (2, 80, 40)
    assert not batch.mel[0, :, 11:].any()
    assert batch.mel[0, :, :11].any()
    assert batch.inputs.shape == batch.targets.shape == (2, 9)
    assert (batch.targets[0, 6:] == IGNORED).all()
    assert (batch.targets[1] != IGNORED).all()
    assert [len(one) for one in batch.letters] == [len("goodbye"), len("thank you goodbye")]


def test_batches_are_of_every_kind_and_repeatable(clips: list[Clip]) -> None:
    drawn = [draw_batch(clips, random.Random(seed)) for seed in range(4)]
    assert {len(batch.mel) for batch in drawn} >= {batches.JOINED_BATCH, len(clips)}
    again = draw_batch(clips, random.Random(2))
    assert torch.equal(again.mel, drawn[2].mel)
    assert torch.equal(again.targets, drawn[2].targets)


def test_whole_windows_are_30_s(clips: list[Clip], monkeypatch: pytest.MonkeyPatch, source: random.Random) -> None:
    monkeypatch.setattr(batches, "WINDOW_SHARE", 1.0)
    monkeypatch.setattr(batches, "WINDOW_BATCH", 1)
    assert draw_batch(clips, source).mel.shape == (1, 80, 3000)


def test_short_clips_are_the_shortest_third(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []

    def draw_example(chosen: list[Clip], source: random.Random) -> Example:
        heard.extend(clip.seconds for clip in chosen)
        return Example(audio=SILENCE, sentences=chosen[0].sentences)

    monkeypatch.setattr(batches, "draw_example", draw_example)
    for seed in range(3):
        draw_batch(clips, random.Random(seed), has_short_clips_only=True)
    assert set(heard) == {clip.seconds for clip in clips[:4]}
