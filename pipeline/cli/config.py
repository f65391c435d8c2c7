"""``callscribe config``: what is set, and where each value comes from."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.table import Table
from rich.text import Text

from pipeline.cli.common import console, load_settings, print_json
from pipeline.runtime.settings import LoadedSettings, known_keys

DEFAULT = "default"
MASK = "********"
# Parameters of a URL that hold a secret: password, sslpassword, ...
SECRET_PARAMETER = re.compile(r"(?i)([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*")

group = typer.Typer(no_args_is_help=True, help="The settings: defaults < callscribe.toml < environment < flags.")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(group, name="config")


@group.command(epilog="Example: CALLSCRIBE_ASR__MODEL=small callscribe config show --changed")
def show(
    context: typer.Context,
    changed: Annotated[bool, typer.Option("--changed", help="Only values that are not defaults.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the effective settings with their origin: default, the file, or the environment variable. Secrets are masked."""
    found = {key: row for key, row in rows(load_settings(context)).items() if not changed or row["origin"] != DEFAULT}
    if as_json:
        print_json({"settings": found})
    elif console.is_terminal:
        table = Table("setting", "value", "origin", box=None, pad_edge=False)
        for key, row in found.items():
            table.add_row(key, Text(_text(row["value"])), row["origin"])
        console.print(table)
    else:
        for key, row in found.items():
            sys.stdout.write(f"{key}\t{_text(row['value'])}\t{row['origin']}\n")


def rows(loaded: LoadedSettings) -> dict[str, dict[str, Any]]:
    """Return ``{"value", "origin"}`` by dotted key, in order; no value holds a secret."""
    found = {}
    for key in known_keys():
        section, _, name = key.partition(".")
        value = getattr(getattr(loaded.settings, section), name)
        found[key] = {"value": shown(key, value), "origin": loaded.origins.get(key, DEFAULT)}
    return found


def shown(key: str, value: Any) -> Any:
    """Return ``value`` as it may be printed.

    >>> shown("store.url", SecretStr("postgresql://me:secret@db/calls"))
    'postgresql://me:********@db/calls'
    """
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        if key == "store.url" and "://" in secret:
            return without_password(secret)
        return MASK if secret else ""
    return without_password(value) if isinstance(value, str) and "://" in value else value


def without_password(url: str) -> str:
    """Return ``url`` with its password and secret parameters masked; with everything masked where it is not clear which they are."""
    scheme, _, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if "?" in user or "/" in user:  # an unescaped character in the password, or an @ behind the host
        return f"{scheme}://{MASK}"
    if at:
        name, colon, _ = user.partition(":")
        rest = f"{name}:{MASK}@{place}" if colon else f"{user}@{place}"
    return f"{scheme}://" + SECRET_PARAMETER.sub(lambda match: match[1] + MASK, rest)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else '""' if value == "" else str(value)
