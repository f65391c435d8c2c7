"""Trains the network: cross entropy of the tokens, and a CTC loss of the letters on the encoder.

Without the CTC loss (Graves et al., 2006) the decoder's attention never aligns with the audio on so little speech. The
softmax is over the tokens in use and one row for all others, which saves most of its cost.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.errors import FailedError
from pipeline.core.wer import WordErrors, normalise, word_error_rate
from pipeline.demo.training.batches import IGNORED, LETTERS, Batch, draw_batch, tokens_in_use, whisper_tokenizer
from pipeline.demo.training.network import (
    FRAME_SAMPLES,
    Checkpoint,
    Dimensions,
    Whisper,
    load_checkpoint,
    log_mel,
    save_checkpoint,
)
from pipeline.demo.training.plan import SHORT_CLIPS_SHARE, Plan
from pipeline.demo.training.speech import RATE, Clip

CTC_WEIGHT = 0.5
LABEL_SMOOTHING = 0.05
BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.01
MAX_GRADIENT_NORM = 1.0
SPELLING_STEPS, SPELLING_RATE = 100, 1e-2  # of the CTC layer alone, for weights that come without it
REPORT_STEPS, VALIDATION_STEPS = 50, 500
VALIDATION_CLIPS = 50  # on the way; all of them at the end
SAVE_SECONDS = 120.0
PADDING_SECONDS = 0.5
MAX_TOKENS = 120
SMOOTHING = 0.98  # of the losses that are reported


class Trainer:
    """A network in training, with its optimizer and the layer that the CTC loss needs."""

    def __init__(self, network: Whisper) -> None:
        self.network = network
        self.spelling = nn.Linear(network.dims.n_audio_state, len(LETTERS) + 1)
        parameters = [*network.parameters(), *self.spelling.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=BETAS, weight_decay=WEIGHT_DECAY)
        used = tokens_in_use()
        unused = sorted(set(range(network.dims.n_vocab)) - set(used))
        self.rows = torch.tensor([*used, *unused[:1]])  # of the embedding, that scores are computed for
        self.unused = torch.tensor(unused)
        self.row_of_token = torch.full((network.dims.n_vocab,), len(used))
        self.row_of_token[torch.tensor(used)] = torch.arange(len(used))

    def step(self, batch: Batch, rate: float) -> tuple[float, float]:
        """Take one step; return the cross entropy and the CTC loss before it. Raises FailedError when it diverged."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        cross_entropy, ctc = self.losses(batch)
        loss = cross_entropy + CTC_WEIGHT * ctc
        if not math.isfinite(loss.item()):
            raise FailedError("the loss is not finite: start again with a lower learning rate")
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], MAX_GRADIENT_NORM)
        self.optimizer.step()
        return cross_entropy.item(), ctc.item()

    def learn_spelling(self, batches: Iterator[Batch]) -> None:
        """Train the CTC layer alone, so that its first gradients do not spoil an encoder that is good already."""
        optimizer = torch.optim.AdamW(self.spelling.parameters(), lr=SPELLING_RATE)
        for batch in batches:
            with torch.no_grad():
                audio = self.network.encoder(batch.mel)
            optimizer.zero_grad()
            self._ctc(audio, batch).backward()
            nn.utils.clip_grad_norm_(self.spelling.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the cross entropy per token and the CTC loss per letter."""
        audio = self.network.encoder(batch.mel)
        is_scored = batch.targets != IGNORED
        found = self.network.decoder(batch.inputs, audio)[is_scored]
        scores = found @ self.network.decoder.token_embedding.weight[self.rows].T
        wanted = self.row_of_token[batch.targets[is_scored]]
        cross_entropy = F.cross_entropy(scores, wanted, label_smoothing=LABEL_SMOOTHING)
        return cross_entropy, self._ctc(audio, batch)

    def share_unused(self) -> None:
        """Give every token that is not in use the row that was trained for all of them."""
        with torch.no_grad():
            weights = self.network.decoder.token_embedding.weight
            weights[self.unused] = weights[self.unused[0]].clone()

    def _ctc(self, audio: Tensor, batch: Batch) -> Tensor:
        spelled = F.log_softmax(self.spelling(audio), -1).transpose(0, 1)
        frames = torch.full((len(batch.letters),), len(spelled))
        lengths = torch.tensor([len(letters) for letters in batch.letters])
        return F.ctc_loss(spelled, torch.cat(batch.letters), frames, lengths, zero_infinity=True)


def train(clips: Sequence[Clip], validation: Sequence[Clip], path: Path, plan: Plan) -> Iterator[str]:
    """Train as planned and write the checkpoint ``path``; yields lines of progress.

    A checkpoint that is there and unfinished is continued; any other is kept, unless the plan has a ``start``. Raises
    UsageError when a checkpoint cannot be read, FailedError when training diverges.
    """
    torch.set_num_threads(plan.threads)
    here = load_checkpoint(path) if path.exists() else None
    is_continued = here is not None and here.training.get("is_complete") is False
    if here is not None and not is_continued and plan.start is None:
        yield f"{path} is complete; give a checkpoint to start from to train again"
        return
    checkpoint = here if is_continued else load_checkpoint(plan.start) if plan.start is not None else None
    trainer = _trainer(checkpoint, plan.seed, is_continued=is_continued)
    step, elapsed, is_new = 0, 0.0, plan.start is None
    if checkpoint is not None and is_continued:
        step, elapsed, is_new = (checkpoint.training[key] for key in ("step", "elapsed_seconds", "is_new"))
    hours = sum(clip.seconds for clip in clips) / 3600
    yield f"{_origin(path, plan, step)}; {hours:.2f} h of audio in {len(clips)} clips"

    ordered = sorted(clips, key=lambda clip: len(clip.audio))
    saved = time.monotonic()
    started = saved - elapsed
    if checkpoint is not None and "spelling" not in checkpoint.training:
        yield f"the checkpoint has no CTC layer: training that alone for {SPELLING_STEPS} steps"
        sources = (random.Random(f"{plan.seed}/spelling/{number}") for number in range(SPELLING_STEPS))
        trainer.learn_spelling(draw_batch(ordered, source) for source in sources)
    losses: tuple[float, float] | None = None
    while (progress := plan.progress(step, elapsed)) < 1:
        source = random.Random(f"{plan.seed}/{step}")
        batch = draw_batch(ordered, source, has_short_clips_only=is_new and progress < SHORT_CLIPS_SHARE)
        new = trainer.step(batch, plan.rate(step, progress))
        losses = _smoothed(losses, new)
        step += 1
        elapsed = time.monotonic() - started
        if step % REPORT_STEPS == 0:
            yield (
                f"step {step}, {elapsed / 60:.1f} min, {plan.progress(step, elapsed):.0%}: "
                f"cross entropy {losses[0]:.3f}, CTC {losses[1]:.3f}"
            )
        if step % VALIDATION_STEPS == 0:
            yield f"step {step}: {_rate(trainer, validation[:VALIDATION_CLIPS])}"
        if time.monotonic() - saved > SAVE_SECONDS:
            _save(path, trainer, {"step": step, "elapsed_seconds": elapsed, "is_new": is_new, "is_complete": False})
            saved = time.monotonic()
    _save(path, trainer, {"step": step, "elapsed_seconds": elapsed, "is_complete": True})
    yield f"step {step}, {elapsed / 60:.1f} min, done: {_rate(trainer, validation)}; {path}"


def transcribe(network: Whisper, clips: Sequence[Clip], *, batch_clips: int = 10) -> list[str]:
    """Return the greedy text of every clip, with half a second of silence after the longest of a batch."""
    texts = []
    for first in range(0, len(clips), batch_clips):
        batch = clips[first : first + batch_clips]
        samples = max(len(clip.audio) for clip in batch) + round(PADDING_SECONDS * RATE)
        audio = np.zeros((len(batch), samples - samples % FRAME_SAMPLES), dtype=np.float32)
        for row, clip in zip(audio, batch, strict=True):
            row[: len(clip.audio)] = clip.audio.astype(np.float32) / 32768
        texts += [whisper_tokenizer().decode(tokens).strip() for tokens in _greedy(network, torch.from_numpy(audio))]
    return texts


def _greedy(network: Whisper, audio: Tensor) -> list[list[int]]:
    """Return the text tokens of every row of ``audio`` (batch, samples)."""
    tokenizer = whisper_tokenizer()
    head = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
    tokens = torch.tensor([head] * len(audio))
    is_done = torch.zeros(len(audio), dtype=torch.bool)
    with torch.no_grad():
        heard = network.encoder(log_mel(audio))
        while not bool(is_done.all()) and tokens.shape[1] < len(head) + MAX_TOKENS:
            last = network.decoder(tokens, heard)[:, -1]
            best = (last @ network.decoder.token_embedding.weight.T).argmax(dim=1)
            best[is_done] = tokenizer.eot
            is_done |= best == tokenizer.eot
            tokens = torch.cat([tokens, best[:, None]], dim=1)
    return [[token for token in row if token < tokenizer.eot] for row in tokens[:, len(head) :].tolist()]


def _rate(trainer: Trainer, clips: Sequence[Clip]) -> str:
    trainer.share_unused()
    errors = WordErrors(errors=0, words=0)
    for clip, text in zip(clips, transcribe(trainer.network, clips), strict=True):
        said = " ".join(sentence.text for sentence in clip.sentences)
        errors += word_error_rate(normalise(said), normalise(text))
    return f"word error rate {errors.rate:.1%} of {errors.words} words"


def _trainer(checkpoint: Checkpoint | None, seed: int, *, is_continued: bool) -> Trainer:
    """Return the trainer of a checkpoint, with its optimizer where that is continued, or of a new network."""
    torch.manual_seed(seed)
    if checkpoint is None:
        network = Whisper(Dimensions())
        network.initialise()
        return Trainer(network)
    trainer = Trainer(checkpoint.network())
    if "spelling" in checkpoint.training:
        trainer.spelling.load_state_dict(checkpoint.training["spelling"])
    if is_continued:
        trainer.optimizer.load_state_dict(checkpoint.training["optimizer"])
    return trainer


def _save(path: Path, trainer: Trainer, reached: Mapping[str, Any]) -> None:
    """Write a checkpoint: one that is complete is smaller, and ready to be converted."""
    training = {**reached, "spelling": trainer.spelling.state_dict()}
    if reached["is_complete"]:
        trainer.share_unused()
    else:
        training["optimizer"] = trainer.optimizer.state_dict()
    save_checkpoint(path, trainer.network, training)


def _origin(path: Path, plan: Plan, step: int) -> str:
    if step:
        return f"continuing {path} after step {step}"
    return "a network that knows nothing" if plan.start is None else f"starting with {plan.start}"


def _smoothed(before: tuple[float, float] | None, new: tuple[float, float]) -> tuple[float, float]:
    if before is None:
        return new
    return (
        SMOOTHING * before[0] + (1 - SMOOTHING) * new[0],
        SMOOTHING * before[1] + (1 - SMOOTHING) * new[1],
    )
