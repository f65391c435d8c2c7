"""``callscribe schemas``: the records' schemas against a Confluent-compatible registry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import print_json, settings_of
from pipeline.core.errors import FailedError, NotReadyError, UsageError

if TYPE_CHECKING:
    from pipeline.runtime.settings import Settings
    from schemas.registry import Registry

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
group = typer.Typer(no_args_is_help=True, help="The records' schemas against a Confluent-compatible registry.")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(group, name="schemas")


@group.command(name="register", epilog="Example: CALLSCRIBE_SCHEMAS__REGISTRY_URL=<url> callscribe schemas register")
def register_schemas(context: typer.Context, as_json: Json = False) -> None:
    """Register every record under <topic>-value; ids then come from the registry."""
    from schemas import schema_text

    settings = settings_of(context)
    with _registry(settings) as registry:
        rows = [
            {"subject": subject, "record": record, "id": registry.register(subject, schema_text(record))}
            for record, subject in _pairs(settings)
        ]
    _print(rows, as_json=as_json, line=lambda row: f"{row['subject']}: {row['record']} has id {row['id']}")


@group.command(epilog="Example: callscribe schemas check --json")
def check(context: typer.Context, as_json: Json = False) -> None:
    """Say of every record whether it is registered, may be, or must not be; exit 1 unless all are registered."""
    settings = settings_of(context)
    with _registry(settings) as registry:
        rows = [_checked(registry, record, subject) for record, subject in _pairs(settings)]
    _print(rows, as_json=as_json, line=lambda row: f"{row['subject']}: {row['record']} {row['state']}{_reason(row)}")
    incompatible = sum(row["state"] == "incompatible" for row in rows)
    missing = sum(row["state"] == "missing" for row in rows)
    if incompatible:
        raise FailedError(f"{incompatible} of {len(rows)} schemas break the registry's compatibility rule")
    if missing:
        raise FailedError(f"{missing} of {len(rows)} schemas are not registered: callscribe schemas register")


def _checked(registry: Registry, record: str, subject: str) -> dict[str, Any]:
    from schemas import schema_text
    from schemas.registry import NotRegisteredError

    schema = schema_text(record)
    row: dict[str, Any] = {"subject": subject, "record": record}
    try:
        return {**row, "id": registry.id_of(subject, schema), "state": "registered", "messages": []}
    except NotRegisteredError:
        answer = registry.compatibility(subject, schema)
        return {
            **row,
            "id": None,
            "state": "missing" if answer.is_compatible else "incompatible",
            "messages": list(answer.messages),
        }


def _pairs(settings: Settings) -> list[tuple[str, str]]:
    from pipeline.runtime.provisioning import subjects

    return [(record, subject) for record, names in subjects(settings.topics.prefix).items() for subject in names]


@contextlib.contextmanager
def _registry(settings: Settings) -> Iterator[Registry]:
    from schemas.registry import IncompatibleSchemaError, Registry, RegistryError

    if not settings.schemas.registry_url:
        raise UsageError(
            "no registry is configured, ids come from the repository: set CALLSCRIBE_SCHEMAS__REGISTRY_URL to use one"
        )
    password = settings.schemas.registry_password.get_secret_value()
    try:
        with Registry(
            settings.schemas.registry_url, username=settings.schemas.registry_username, password=password
        ) as registry:
            yield registry
    except IncompatibleSchemaError as error:
        raise FailedError(str(error)) from error
    except RegistryError as error:
        raise NotReadyError(str(error)) from error


def _reason(row: dict[str, Any]) -> str:
    return f" ({row['messages'][0]})" if row["messages"] else ""


def _print(rows: list[dict[str, Any]], *, as_json: bool, line: Any) -> None:
    if as_json:
        print_json({"schemas": rows})
        return
    for row in rows:
        typer.echo(line(row))
