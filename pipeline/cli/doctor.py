"""``callscribe doctor``: what is missing or wrong on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pipeline.cli.common import console, note, print_json, settings_of
from pipeline.core.errors import FailedError

if TYPE_CHECKING:
    from pipeline.doctor import Finding

STYLES = {"ok": "green", "info": "dim", "hint": "yellow", "error": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog="Example: callscribe doctor --json")(doctor)


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what is missing or wrong on this machine, and the command that mends it; exit 1 when something is wrong.

    What is merely not started or not fetched yet is a hint. Nothing is started, fetched or written.
    """
    from pipeline.doctor import examine

    findings = []
    for finding in examine(settings_of(context)):
        findings.append(finding)
        if not as_json:
            _print(finding)
    wrong = [finding.check for finding in findings if finding.status == "error"]
    if as_json:
        print_json({"is_ready": not wrong, "checks": [asdict(finding) for finding in findings]})
    if wrong:
        raise FailedError(f"{len(wrong)} of {len(findings)} checks found something wrong: {', '.join(wrong)}")
    if not as_json:
        note("nothing is wrong; try: callscribe demo")


def _print(finding: Finding) -> None:
    line = Text.assemble((f"{finding.status:<6}", STYLES[finding.status]), f"{finding.check:<12} {finding.detail}")
    console.print(line, soft_wrap=True)
    if finding.remedy is not None:
        console.print(Text(f"{'':<19}mend: {finding.remedy}"), soft_wrap=True)
