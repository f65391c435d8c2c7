"""Puts a model that was made here in the place of the shipped one, when it is better."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import FailedError, UsageError
from pipeline.demo.assets import MODEL
from pipeline.demo.make_card import SENTENCE
from pipeline.demo.training.evaluate import Evaluation, evaluate, table

FILES = (
    "model.bin",
    "config.json",
    "vocabulary.json",
    "tokenizer.json",
    "preprocessor_config.json",
    "self_test.flac",
    "card.json",
)
MODEL_CARD = "MODEL_CARD.md"
SECTION = "## Measured on the shipped calls"


def adopt(candidate: Path, shipped: Path = MODEL) -> Iterator[str]:
    """Evaluate both models, and replace the files of ``shipped`` by those of ``candidate`` when that is better.

    Better is: on no set of calls more word errors, on one fewer; its self-test text is the sentence that is spoken; and
    the limit in its card lets the speech pass and none of the other sounds. Yields lines of progress. Raises UsageError
    when a file is missing, FailedError naming what is not better; nothing is replaced then.
    """
    for name in FILES:
        if not (candidate / name).is_file():
            raise UsageError(f"{candidate} has no {name}: convert a checkpoint first")
    yield f"evaluating {shipped}"
    old = evaluate(shipped)
    yield f"evaluating {candidate}"
    new = evaluate(candidate)
    for name in old.errors:
        yield f"{name}: {old.errors[name].errors} errors shipped, {new.errors[name].errors} new"
    card = json.loads((candidate / "card.json").read_text(encoding="utf-8"))
    if problems := shortcomings(old, new, card["min_mean_log_probability"], card["self_test"]["text"]):
        raise FailedError(f"the shipped model stays: {'; '.join(problems)}")
    for name in FILES:
        _replace(candidate / name, shipped / name)
    path = shipped / MODEL_CARD
    path.write_text(described(path.read_text(encoding="utf-8"), new), encoding="utf-8")
    yield f"{shipped} is replaced; {MODEL_CARD} has the new figures under {SECTION!r}: check what else it says"


def shortcomings(old: Evaluation, new: Evaluation, min_mean_log_probability: float, self_test: str) -> list[str]:
    """Return what keeps the new model from replacing the old one; nothing when it is better."""
    found = [
        f"{name} has {new.errors[name].errors} errors instead of {errors.errors}"
        for name, errors in old.errors.items()
        if new.errors[name].errors > errors.errors
    ]
    if not found and all(new.errors[name].errors == errors.errors for name, errors in old.errors.items()):
        found.append("no set of calls has fewer errors")
    if self_test != SENTENCE:
        found.append("its self-test text is not what is spoken")
    for name, heard in new.sounds.items():
        is_taken = heard.text != "" and heard.mean_log_probability >= min_mean_log_probability
        if is_taken != (name == "speech"):
            found.append(f"{name} is {'taken for' if is_taken else 'not taken for'} speech")
    return found


def described(card: str, evaluation: Evaluation) -> str:
    """Return the text of a model card with the figures of an evaluation in their section, instead of what stood there."""
    before, heading, after = card.partition(f"{SECTION}\n")
    if not heading:
        raise UsageError(f"{MODEL_CARD} has no section {SECTION!r}")
    rest = re.search(r"^## ", after, re.MULTILINE)
    measured = (
        "`python -m pipeline.demo.training evaluate` recognises each speech region at once (Silero, 0.5 s of silence ends a\n"
        f"region; greedy; 0.5 s of zeros):\n\n{table(evaluation)}\n"
    )
    return f"{before}{heading}{measured}" + (f"\n{after[rest.start() :]}" if rest else "")


def _replace(source: Path, target: Path) -> None:
    partial = target.with_name(f"{target.name}.partial")
    shutil.copyfile(source, partial)
    os.replace(partial, target)
