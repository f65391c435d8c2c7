"""What every command shares: settings from the context, output that fits a terminal or a pipe, exit codes."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from pipeline.runtime import settings as settings_module
from pipeline.runtime.settings import LoadedSettings, Settings

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Context:
    """Options of the root command."""

    config: Path | None


def load_settings(context: typer.Context, **flags: Any) -> LoadedSettings:
    """Return the effective settings; ``flags`` are dotted keys with ``__`` for the dot, None meaning not given."""
    root: Context = context.find_root().obj or Context(config=None)
    return settings_module.load(
        config=root.config, flags={key.replace("__", "."): value for key, value in flags.items()}
    )


def settings_of(context: typer.Context, **flags: Any) -> Settings:
    """Return the effective settings without their origins."""
    return load_settings(context, **flags).settings


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def note(text: str) -> None:
    """Print a line for people on stderr, so that stdout stays for results."""
    errors.print(text, markup=False, soft_wrap=True)


@contextmanager
def stopped_in_order() -> Iterator[None]:
    """Let a request to end stop what was started, as Ctrl-C does."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda got, frame: sys.exit(128 + got)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
