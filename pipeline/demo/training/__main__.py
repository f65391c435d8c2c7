"""The commands that make the demo model; ``all`` runs them in order, up to but without ``adopt``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pipeline.core.errors import CallscribeError, NotReadyError
from pipeline.demo.make_calls import synthesizers
from pipeline.demo.training.plan import LEARNING_RATE, MINUTES, Plan

WORK = Path(".work/demo-model")
SEED = 7
CLIPS, VALIDATION_CLIPS = 18_000, 250

EPILOG = """\
A full run (4 h, 3 GB):      python -m pipeline.demo.training all
A trial of a few minutes:    python -m pipeline.demo.training all --work .work/trial --clips 500 --minutes 3
Train on from a checkpoint:  python -m pipeline.demo.training train --from .work/demo-model/checkpoint.pt --minutes 60
The better model ships:      python -m pipeline.demo.training adopt

What is there already is kept: shards of speech, and a training that was interrupted goes on where it was.
Exit codes: 0 done, 1 failed or not better, 2 wrong usage, 3 a program or a file is missing, 130 interrupted.
"""


def speech(options: argparse.Namespace) -> None:
    """Synthesize the training and validation speech."""
    from pipeline.demo.training.speech import make_speech

    for name, clips in (("validation", options.validation), ("train", options.clips)):
        _print(make_speech(options.work / "speech", name, clips, seed=options.seed, threads=options.threads))


def train(options: argparse.Namespace) -> None:
    """Train, and write checkpoint.pt in the layout of OpenAI's Whisper."""
    from pipeline.demo.training.speech import load_speech

    plan = Plan(
        seed=options.seed,
        steps=options.steps,
        minutes=MINUTES if options.steps is None and options.minutes is None else options.minutes,
        threads=options.threads,
        learning_rate=options.learning_rate,
        start=options.start,
    )
    clips, validation = (load_speech(options.work / "speech", name) for name in ("train", "validation"))
    from pipeline.demo.training.train import train as run  # takes seconds, so behind what may be missing

    _print(run(clips, validation, _checkpoint(options), plan))


def convert(options: argparse.Namespace) -> None:
    """Convert checkpoint.pt to CTranslate2 (int8, the taught part of the vocabulary), and make its card.json and self-test."""
    synthesizers()
    from pipeline.demo.make_card import make_card
    from pipeline.demo.training.convert import convert as run
    from pipeline.demo.training.network import load_checkpoint

    run(load_checkpoint(_checkpoint(options)), _model(options))
    print(make_card(_model(options)))


def evaluate(options: argparse.Namespace) -> None:
    """Print the word error rates on the shipped calls, and what is heard in silence, noise, tones and music."""
    from pipeline.demo.training.evaluate import evaluate as run
    from pipeline.demo.training.evaluate import table, write_evaluation

    evaluation = run(_model(options))
    write_evaluation(evaluation, options.work)
    print(json.dumps(evaluation.document(), indent=2, ensure_ascii=False) if options.json else table(evaluation))


def adopt(options: argparse.Namespace) -> None:
    """Replace the shipped model by the one that was made, if it is better on every set of calls."""
    from pipeline.demo.training.adopt import adopt as run

    _print(run(_model(options)))


def everything(options: argparse.Namespace) -> None:
    """Speech, training, conversion and evaluation."""
    for command in (speech, train, convert, evaluate):
        command(options)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "all": everything,
    "speech": speech,
    "train": train,
    "convert": convert,
    "evaluate": evaluate,
    "adopt": adopt,
}
NEED_TORCH = (everything, train, convert)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--work", type=Path, default=WORK, help="folder for everything that is made (%(default)s)")
    common.add_argument("--seed", type=int, default=SEED, help="draws speech, examples and first weights (%(default)s)")
    common.add_argument("--threads", type=_positive, default=os.cpu_count() or 1, help="CPU threads (%(default)s)")
    speaking = argparse.ArgumentParser(add_help=False)
    speaking.add_argument("--clips", type=_positive, default=CLIPS, help="training clips (%(default)s)")
    speaking.add_argument("--validation", type=_positive, default=VALIDATION_CLIPS, help="clips to check (%(default)s)")
    training = argparse.ArgumentParser(add_help=False)
    length = training.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help=f"length of the training ({MINUTES:g})")
    length.add_argument("--steps", type=_positive, help="the same in steps: repeatable, whatever the machine's speed")
    training.add_argument("--learning-rate", type=float, default=LEARNING_RATE, help="the highest (%(default)s)")
    training.add_argument("--from", type=Path, dest="start", metavar="CHECKPOINT", help="start with these weights")
    reading = argparse.ArgumentParser(add_help=False)
    reading.add_argument("--checkpoint", type=Path, help="(checkpoint.pt in the work folder)")
    placing = argparse.ArgumentParser(add_help=False)
    placing.add_argument("--model", type=Path, help="the CTranslate2 folder (model in the work folder)")
    showing = argparse.ArgumentParser(add_help=False)
    showing.add_argument("--json", action="store_true", help="print one JSON document")
    parents = {
        "all": [common, speaking, training, showing],
        "speech": [common, speaking],
        "train": [common, training],
        "convert": [common, reading, placing],
        "evaluate": [common, placing, showing],
        "adopt": [common, placing],
    }
    root = argparse.ArgumentParser(
        prog="python -m pipeline.demo.training",
        description="Make the demo model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, parents=parents[name], help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = parser().parse_args(arguments)
    try:
        if options.command in NEED_TORCH and importlib.util.find_spec("torch") is None:
            raise NotReadyError("torch is not installed: run make setup-full")
        options.command(options)
    except CallscribeError as error:
        print(f"demo-model: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def _checkpoint(options: argparse.Namespace) -> Path:
    given: Path | None = getattr(options, "checkpoint", None)
    return given or options.work / "checkpoint.pt"


def _model(options: argparse.Namespace) -> Path:
    given: Path | None = getattr(options, "model", None)
    return given or options.work / "model"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
