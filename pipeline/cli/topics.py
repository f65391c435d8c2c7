"""``callscribe topics``: the topics declared in topics/topics.yaml against a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import note, print_json, settings_of
from pipeline.core.errors import FailedError

if TYPE_CHECKING:
    from topics.provision import Change

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
group = typer.Typer(no_args_is_help=True, help="The declared topics against a broker.")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(group, name="topics")


@group.command(epilog="Example: callscribe topics plan")
def plan(context: typer.Context, as_json: Json = False) -> None:
    """Show what apply would change."""
    from pipeline.runtime.provisioning import plan_topics

    _print(plan_topics(settings_of(context)), as_json=as_json, nothing="nothing to change")


@group.command(epilog="Example: callscribe topics apply")
def apply(context: typer.Context, as_json: Json = False) -> None:
    """Create missing topics and correct their configuration; never deletes, never changes a partition count."""
    from pipeline.runtime.provisioning import apply_topics

    _print(apply_topics(settings_of(context)), as_json=as_json, nothing="nothing to change")


@group.command(epilog="Example: callscribe topics check --json")
def check(context: typer.Context, as_json: Json = False) -> None:
    """List every difference; exit 1 when there is one."""
    from pipeline.runtime.provisioning import plan_topics

    changes = plan_topics(settings_of(context))
    _print(changes, as_json=as_json, nothing="no drift")
    if changes:
        raise FailedError(f"{len(changes)} topic(s) differ from topics.yaml")


def _print(changes: list[Change], *, as_json: bool, nothing: str) -> None:
    if as_json:
        print_json({"changes": [{"topic": c.topic, "action": c.action, "details": list(c.details)} for c in changes]})
    elif changes:
        for change in changes:
            typer.echo(str(change))
    else:
        note(nothing)
