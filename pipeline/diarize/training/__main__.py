"""The commands that make the segmentation model; ``all`` runs them in order, up to but without ``adopt``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import CallscribeError, NotReadyError
from pipeline.diarize.card import ENCODER, FOLDER
from pipeline.diarize.training.plan import LEARNING_RATE, STEPS, Plan

if TYPE_CHECKING:
    from pipeline.diarize.training.errors import LocalErrors
    from pipeline.diarize.training.examples import Shard

WORK = Path(".work/segmentation-training")
SEED = 7
EXAMPLES, CHECKED_EXAMPLES = 16_000, 500

EPILOG = """\
A full run (1 h, 2 cores, 6 GB):       python -m pipeline.diarize.training all
A trial of some minutes:               python -m pipeline.diarize.training all --folder .work/trial --examples 500 --checked 50 --steps 50
Errors on your recordings and RTTM:    python -m pipeline.diarize.training evaluate --recordings FOLDER
For programs that use pyannote.audio:  python -m pipeline.diarize.training export
The better model ships:                python -m pipeline.diarize.training adopt

What is there already is kept: voices, and shards of examples. Training starts from the beginning.
Exit codes: 0 done, 1 failed or not better, 2 wrong usage, 3 a program or a file is missing, 4 a recording was refused, 130 interrupted.
"""


def speech(options: argparse.Namespace) -> None:
    """Let every voice speak, those of training and those that are held out."""
    from pipeline.diarize.training.speech import make_speech

    _print(make_speech(options.folder / "speech", seed=options.seed, threads=options.threads))


def examples(options: argparse.Namespace) -> None:
    """Simulate conversations, and keep their frame features and who speaks."""
    from pipeline.diarize.training.examples import VOICES_OF, Examples, make_examples

    made_of = Examples(speech=options.folder / "speech", encoder=FOLDER / ENCODER, seed=options.seed)
    for name in VOICES_OF:
        count = options.examples if name == "training" else options.checked
        _print(make_examples(options.folder / "examples", name, count, made_of, processes=options.threads))


def train(options: argparse.Namespace) -> None:
    """Train a new head on the examples, and write segmentation.pt and training.json."""
    from pipeline.diarize.training.examples import load_examples

    steps = STEPS if options.steps is None and options.minutes is None else options.steps
    plan = Plan(
        seed=options.seed,
        steps=steps,
        minutes=options.minutes,
        threads=options.threads,
        learning_rate=options.learning_rate,
    )
    shards, validation = (load_examples(options.folder / "examples", name) for name in ("training", "validation"))
    from pipeline.diarize.training.train import train as run  # takes seconds, so behind what may be missing

    _print(run(shards, validation, options.folder, plan))


def evaluate(options: argparse.Namespace) -> None:
    """Print the local errors of a head in windows of 5 s: of examples, or of recordings with RTTM."""
    from pipeline.diarize.training.evaluate import (
        compared,
        errors_in_recordings,
        errors_of,
        load_head,
        table,
        write_evaluation,
    )

    head = load_head(options.head or options.folder / "segmentation.pt")
    if options.recordings is None:
        sets = _checked(options.folder)
        document = compared(
            lambda one, collar: {name: errors_of(one, shards, collar_seconds=collar) for name, shards in sets.items()},
            head,
        )
        write_evaluation(document, options.folder)
    else:
        document = compared(
            lambda one, collar: _with_sum(
                errors_in_recordings(one, FOLDER / ENCODER, options.recordings, collar_seconds=collar)
            ),
            head,
        )
    print(json.dumps(document, indent=2, ensure_ascii=False) if options.json else table(document))


def adopt(options: argparse.Namespace) -> None:
    """Replace the shipped head by the one that was trained, unless it has more errors with voices that are held out."""
    from pipeline.diarize.training.adopt import adopt as run

    _print(run(options.folder, _checked(options.folder), wheel=options.wheel))


def export(options: argparse.Namespace) -> None:
    """Write the head and the encoder as one checkpoint of pyannote.audio, segmentation.bin."""
    from pipeline.diarize.training.evaluate import load_head
    from pipeline.diarize.training.pyannote import export as run

    run(
        load_head(options.head or options.folder / "segmentation.pt"),
        FOLDER / ENCODER,
        options.folder / "segmentation.bin",
    )


def everything(options: argparse.Namespace) -> None:
    """Speech, examples, training and evaluation."""
    for command in (speech, examples, train, evaluate):
        command(options)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "all": everything,
    "speech": speech,
    "examples": examples,
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "adopt": adopt,
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, default=WORK, help="for everything that is made (%(default)s)")
    drawing = argparse.ArgumentParser(add_help=False)
    drawing.add_argument("--seed", type=int, default=SEED, help="draws speech, examples, weights (%(default)s)")
    drawing.add_argument("--threads", type=_positive, default=os.cpu_count() or 1, help="CPU threads (%(default)s)")
    making = argparse.ArgumentParser(add_help=False)
    making.add_argument("--examples", type=_positive, default=EXAMPLES, help="to train on (%(default)s)")
    making.add_argument(
        "--checked", type=_positive, default=CHECKED_EXAMPLES, help="to check with, twice (%(default)s)"
    )
    training = argparse.ArgumentParser(add_help=False)
    length = training.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="length of the training")
    length.add_argument(
        "--steps",
        type=_positive,
        help=f"the same in steps ({STEPS}): repeatable with one thread, whatever the machine's speed",
    )
    training.add_argument("--learning-rate", type=float, default=LEARNING_RATE, help="the highest (%(default)s)")
    reading = argparse.ArgumentParser(add_help=False)
    showing = argparse.ArgumentParser(add_help=False)
    reading.add_argument("--head", type=Path, help="(segmentation.pt in the folder)")
    showing.add_argument("--recordings", type=Path, help="folder of .wav or .flac files with .rttm files beside them")
    showing.add_argument("--json", action="store_true", help="print one JSON document")
    adopting = argparse.ArgumentParser(add_help=False)
    adopting.add_argument("--wheel", type=Path, help="the wheel of resemblyzer 0.1.4 (downloaded by pip)")
    parents = {
        "all": [common, drawing, making, training, reading, showing],
        "speech": [common, drawing],
        "examples": [common, drawing, making],
        "train": [common, drawing, training],
        "evaluate": [common, reading, showing],
        "export": [common, reading],
        "adopt": [common, adopting],
    }
    root = argparse.ArgumentParser(
        prog="python -m pipeline.diarize.training",
        description="Make the segmentation model.",
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
        if options.command is not speech and importlib.util.find_spec("torch") is None:
            raise NotReadyError("torch is not installed: run make setup-full")
        with warnings.catch_warnings(action="ignore"):  # of the packages' own imports
            options.command(options)
    except CallscribeError as error:
        print(f"segmentation-training: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _with_sum(found: dict[str, LocalErrors]) -> dict[str, LocalErrors]:
    return found | {"all": sum(found.values(), start=type(next(iter(found.values())))())}


def _checked(folder: Path) -> dict[str, list[Shard]]:
    from pipeline.diarize.training.examples import VOICES_OF, load_examples

    return {name: load_examples(folder / "examples", name) for name in VOICES_OF if name != "training"}


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
