"""``callscribe dead-letters``: records that could not be used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import note, print_json, settings_of
from pipeline.core.errors import FailedError

if TYPE_CHECKING:
    from pipeline.runtime.dead_letters import Coordinates
    from pipeline.runtime.settings import Settings
    from schemas.records import DeadLetter

PREVIEW_BYTES = 256

Id = Annotated[str, typer.Argument(help="topic/partition/offset of the record that was rejected.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the group ``dead-letters``."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Records that could not be used. Each is named by where the original lies: topic/partition/offset.",
        epilog="Example: callscribe dead-letters list",
    )
    group.command("list", epilog="Example: callscribe dead-letters list --json")(list_letters)
    group.command("show", epilog="Example: callscribe dead-letters show callscribe.call.audio.v1/3/42")(show)
    group.command("requeue", epilog="Example: callscribe dead-letters requeue callscribe.call.audio.v1/3/42")(requeue)
    app.add_typer(group, name="dead-letters")


def list_letters(context: typer.Context, as_json: AsJson = False) -> None:
    """List dead letters, oldest rejection first."""
    from pipeline.runtime.dead_letters import read_dead_letters

    letters = sorted(read_dead_letters(settings_of(context)), key=lambda letter: letter.time_ms)
    if as_json:
        print_json([_document(letter) for letter in letters])
        return
    if not letters:
        note("no dead letters")
    for letter in letters:
        fields = (_time(letter), _name(letter), letter.stage, letter.reason, letter.call_id or "-", letter.detail)
        typer.echo("\t".join(fields).rstrip())


def show(
    context: typer.Context,
    name: Id,
    as_json: AsJson = False,
    with_bytes: Annotated[
        bool, typer.Option("--bytes", help="Also the first bytes of the value in hex; they may hold customers' words.")
    ] = False,
) -> None:
    """Show what is known about a dead letter: one entry for each stage that rejected the record."""
    from pipeline.runtime.dead_letters import Coordinates

    letters = _find(settings_of(context), (Coordinates.parse(name),))
    documents = [_document(letter) | (_preview(letter) if with_bytes else {}) for letter in letters]
    if as_json:
        print_json(documents)
        return
    for document in documents:
        width = max(map(len, document))
        for field, value in document.items():
            typer.echo(f"{field:<{width}}  {'-' if value is None else value}")
        if document is not documents[-1]:
            typer.echo()


def requeue(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="topic/partition/offset of each record.", metavar="ID")],
) -> None:
    """Write the original records again, with their keys, to the partitions they came from.

    It has an effect on what came too early, what the sink rejected, and what its call has not gone past: the stages drop the rest.
    """
    from pipeline.runtime import dead_letters

    settings = settings_of(context)
    wanted = tuple(dict.fromkeys(dead_letters.Coordinates.parse(name) for name in names))
    dead_letters.requeue(settings, _find(settings, wanted))
    note(f"requeued {len(wanted)}; what a call has gone past is dropped by the stages")


def _find(settings: Settings, wanted: tuple[Coordinates, ...]) -> list[DeadLetter]:
    """Return the letters about ``wanted``, by name and stage. Raises FailedError naming one that is not there."""
    from pipeline.runtime.dead_letters import coordinates_of, read_dead_letters

    found = [letter for letter in read_dead_letters(settings) if coordinates_of(letter) in wanted]
    missing = set(wanted) - {coordinates_of(letter) for letter in found}
    if missing:
        raise FailedError(f"no dead letter about {min(missing)}; see: callscribe dead-letters list")
    return sorted(found, key=lambda letter: (coordinates_of(letter), letter.stage))


def _name(letter: DeadLetter) -> str:
    from pipeline.runtime.dead_letters import coordinates_of

    return str(coordinates_of(letter))


def _document(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": _name(letter),
        "stage": letter.stage,
        "reason": letter.reason,
        "detail": letter.detail,
        "call_id": letter.call_id,
        "rejected_at": _time(letter),
        "value_size": letter.value_size,
        "value_sha256": letter.value_sha256,
        "is_kept": letter.value is not None or letter.value_size == 0,
    }


def _time(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.time_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _preview(letter: DeadLetter) -> dict[str, Any]:
    return {
        "key_hex": None if letter.key is None else letter.key.hex(),
        "value_hex": None if letter.value is None else letter.value[:PREVIEW_BYTES].hex(),
    }
