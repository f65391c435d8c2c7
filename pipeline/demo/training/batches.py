"""Batches of examples as the network takes them: spectrograms, tokens in, tokens and letters out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.demo.assets import WHISPER_TOKENIZER
from pipeline.demo.training.augment import Example, draw_example
from pipeline.demo.training.network import FRAME_SAMPLES, HOP_SAMPLES, log_mel
from pipeline.demo.training.speech import RATE, Clip
from pipeline.demo.training.vocabulary import MARKS, TEXTS, forms_of

LETTERS = "abcdefghijklmnopqrstuvwxyz '"  # of the CTC loss, numbered from 1; 0 is its blank
IGNORED = -100  # target of a position that is not scored
PROMPT_TOKENS = 60
FRAME_SECONDS = 0.02  # of a timestamp token
WINDOW_SAMPLES = 30 * RATE
EXTRA_FRAMES = 20  # at most so many of silence after the longest example of a batch

WINDOW_SHARE, JOINED_SHARE = 0.12, 0.38  # of the batches; the rest are of single clips of similar length
WINDOW_BATCH, JOINED_BATCH, SINGLE_BATCH = 4, 6, 16
JOINED_CLIPS = (2, 5)
SIMILAR_BATCHES = 4  # a batch of single clips is drawn from so many batches' worth of neighbours by length
EMPTY_FRAMES_SHARE = 0.6  # of the batches of whole windows: the spectrogram is padded, in the others the audio


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Batch:
    """Log-mel spectrograms (batch, 80, frames); tokens before and after each position, both (batch, n); letters of each."""

    mel: Tensor
    inputs: Tensor
    targets: Tensor
    letters: tuple[Tensor, ...]


@lru_cache(maxsize=1)
def whisper_tokenizer() -> Any:
    """Return faster-whisper's tokenizer with Whisper's whole vocabulary, set to transcribe English."""
    from faster_whisper.tokenizer import Tokenizer
    from tokenizers import Tokenizer as Vocabulary

    return Tokenizer(Vocabulary.from_file(str(WHISPER_TOKENIZER)), True, task="transcribe", language="en")


def tokens_in_use() -> list[int]:
    """Return every token that training speech can have, in order: words in each case, punctuation, timestamps, special ones."""
    tokenizer = whisper_tokenizer()
    found = {token for mark in MARKS for token in tokenizer.encode(mark)}
    for form in forms_of(TEXTS):
        found.update(tokenizer.encode(f" {form}"))
    special = range(tokenizer.eot, tokenizer.tokenizer.get_vocab_size())
    languages = {token for token in special if tokenizer.sot < token < tokenizer.translate}
    return sorted(found | (set(special) - languages) | {tokenizer.language})


def token_pairs(example: Example) -> tuple[list[int], list[int]]:
    """Return the tokens the decoder is given and, for each, the one it is to say next.

    Without speech only two positions are scored: no speech at the start of the transcript, and its end.
    """
    tokenizer = whisper_tokenizer()
    prompt = [tokenizer.sot_prev, *tokenizer.encode(f" {example.prompt}")[-PROMPT_TOKENS:]] if example.prompt else []
    tokens = [*prompt, *tokenizer.sot_sequence]
    if example.has_timestamps:
        for sentence in example.sentences:
            tokens += [_timestamp(sentence.start_seconds), *tokenizer.encode(f" {sentence.text}")]
            tokens.append(_timestamp(sentence.end_seconds))
    else:
        tokens += [tokenizer.no_timestamps, *(tokenizer.encode(f" {example.text}") if example.text else [])]
    tokens.append(tokenizer.eot)
    targets = [IGNORED] * len(prompt) + tokens[len(prompt) + 1 :]
    if not example.is_speech:
        targets = [tokenizer.no_speech, IGNORED, IGNORED, tokenizer.eot]
    return tokens[:-1], targets


def letters(text: str) -> Tensor:
    """Return the letters of a text as numbers, (n,)."""
    return torch.tensor([LETTERS.index(letter) + 1 for letter in text.lower() if letter in LETTERS], dtype=torch.long)


def collate(examples: Sequence[Example], *, samples: int, has_empty_frames: bool = False) -> Batch:
    """Return the batch of ``examples`` in windows of ``samples``, silent after each.

    ``has_empty_frames`` sets the spectrogram to zero after the audio, as padding it to 30 s does.
    """
    audio = np.zeros((len(examples), samples), dtype=np.float32)
    for row, example in zip(audio, examples, strict=True):
        heard = example.audio[:samples]
        row[: len(heard)] = heard
    mel = log_mel(torch.from_numpy(audio))
    if has_empty_frames:
        for spectrogram, example in zip(mel, examples, strict=True):
            spectrogram[:, len(example.audio) // HOP_SAMPLES + 1 :] = 0
    pairs = [token_pairs(example) for example in examples]
    length = max(len(tokens) for tokens, _ in pairs)
    inputs = torch.full((len(pairs), length), whisper_tokenizer().eot)
    targets = torch.full((len(pairs), length), IGNORED)
    for row, (tokens, wanted) in enumerate(pairs):
        inputs[row, : len(tokens)] = torch.tensor(tokens)
        targets[row, : len(tokens)] = torch.tensor(wanted)
    return Batch(mel=mel, inputs=inputs, targets=targets, letters=tuple(letters(one.text) for one in examples))


def draw_batch(clips: Sequence[Clip], source: random.Random, *, has_short_clips_only: bool = False) -> Batch:
    """Return a batch of whole windows, of joined clips, or of single clips of similar length.

    ``clips`` are ordered by length. ``has_short_clips_only`` draws single clips from the shortest third: attention finds
    the words in those first.
    """
    kind = 1.0 if has_short_clips_only else source.random()
    if kind < WINDOW_SHARE + JOINED_SHARE:
        is_window = kind < WINDOW_SHARE
        joined = source.randint(*JOINED_CLIPS)
        chosen = [source.choices(clips, k=joined) for _ in range(WINDOW_BATCH if is_window else JOINED_BATCH)]
    else:
        is_window = False
        last = max(1, len(clips) // 3) if has_short_clips_only else len(clips)
        near = min(last, SINGLE_BATCH * SIMILAR_BATCHES)
        first = source.randint(0, last - near)
        chosen = [[clip] for clip in source.sample(clips[first : first + near], min(near, SINGLE_BATCH))]
    examples = [draw_example(part, source) for part in chosen]
    if is_window:
        has_empty_frames = source.random() < EMPTY_FRAMES_SHARE
        return collate(examples, samples=WINDOW_SAMPLES, has_empty_frames=has_empty_frames)
    longest = max(len(example.audio) for example in examples)
    frames = longest // FRAME_SAMPLES + 1 + source.randint(0, EXTRA_FRAMES)
    return collate(examples, samples=min(WINDOW_SAMPLES, frames * FRAME_SAMPLES))


def _timestamp(seconds: float) -> int:
    return int(whisper_tokenizer().timestamp_begin) + min(1500, round(seconds / FRAME_SECONDS))
