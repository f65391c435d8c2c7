"""``callscribe models``: what is on offer, whether a model works here, and fetching one before it is needed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import note, print_json, settings_of
from pipeline.core.errors import NotReadyError

if TYPE_CHECKING:
    from pipeline.asr.loading import ModelFiles
    from pipeline.runtime.settings import AsrSettings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
MEGABYTE = 1_000_000

group = typer.Typer(no_args_is_help=True, help="The recogniser's models: see, test and fetch them.")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(group, name="models")


@group.command(name="list", epilog="Example: callscribe models list --json")
def list_models(context: typer.Context, as_json: Json = False) -> None:
    """Show the models that calls may use (settings asr.model, asr.models, asr.pinned). Loads and fetches nothing."""
    from pipeline.asr.catalogue import check_names

    asr = settings_of(context).asr
    check_names(asr)
    rows = [_row(name, asr) for name in asr.offered]
    if as_json:
        print_json({"models": rows})
        return
    for row in rows:
        typer.echo(f"{row['name']}  {row['role']}  {row['problem'] or _summary(row)}")


@group.command(epilog="Example: callscribe models check small")
def check(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A name or folder, as for --model; the default model.")] = None,
    as_json: Json = False,
) -> None:
    """Load a model that is on this machine and test it as a worker does at its start; exit 3 when it cannot be used."""
    from pipeline.asr.catalogue import profile_of
    from pipeline.asr.engine import WhisperEngine, resolve_device
    from pipeline.asr.loading import resolve_model
    from pipeline.asr.self_test import check_model

    asr = settings_of(context).asr
    name = name or asr.model
    files = resolve_model(name, cache=asr.model_cache, offline=True)
    profile = profile_of(name, files, asr)
    device = resolve_device(asr.device, asr.compute_type)
    begin = time.monotonic()
    engine = WhisperEngine(
        str(files.folder), profile, device=device, compute_type=asr.compute_type, threads=asr.threads or 1
    )
    load_seconds = time.monotonic() - begin
    tested = check_model(engine, profile, files, "strict" if asr.self_test == "strict" else "basic")
    if as_json:
        loaded = {"device": engine.device, "compute_type": engine.compute_type, "load_seconds": round(load_seconds, 2)}
        print_json({"model": {"name": name, **_facts(files), **loaded, "self_test": tested}})
        return
    proof = "writes the text in its card" if tested == "text" else "decodes with finite scores, its card has no text"
    typer.echo(f"{profile.revision} on {engine.device}, {engine.compute_type}, loaded in {load_seconds:.1f} s: {proof}")


@group.command(epilog="Example: callscribe models download small --to ./models")
def download(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="small, large-v3-turbo, organisation/name, ...")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder that gets a folder per model, to be copied elsewhere.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch models from the hub before they are needed, into the model cache or a folder; print path and revision.

    What is there already is not fetched again. Exit 3 when the hub cannot be reached, or the files are not complete.
    """
    from pipeline.asr.loading import download_model, resolve_model

    asr = settings_of(context).asr
    rows = []
    for name in names:
        note(f"{name}: looking, fetching what is not here")
        folder = None if to is None else to / name.replace("/", "--")
        files = resolve_model(name, cache=asr.model_cache) if folder is None else download_model(name, folder)
        rows.append({"name": name, **_facts(files)})
        if not as_json:
            typer.echo(f"{files.folder.resolve()}  {rows[-1]['revision']}  {_size(rows[-1])}")
    if as_json:
        print_json({"models": rows})
    elif to is not None:
        note("where it is copied to: callscribe up --model <folder>")


def _row(name: str, asr: AsrSettings) -> dict[str, Any]:
    """Return what is known of a model on offer; ``problem`` says why it cannot be used yet."""
    from pipeline.asr.catalogue import profile_of
    from pipeline.asr.loading import NOT_FETCHED, resolve_model

    role = "default" if name == asr.model else "pinned" if name in asr.pinned else "on demand"
    try:
        files = resolve_model(name, cache=asr.model_cache, offline=True)
    except NotReadyError as error:
        is_absent = NOT_FETCHED in str(error)
        problem = f"not on this machine yet: callscribe models download {name}" if is_absent else str(error)
        return {"name": name, "role": role, "problem": problem}
    profile = profile_of(name, files, asr)
    used = {"policy": profile.policy, "step_seconds": profile.step_seconds, "padding_seconds": profile.padding_seconds}
    return {"name": name, "role": role, "problem": None, **_facts(files), **used}


def _facts(files: ModelFiles) -> dict[str, Any]:
    return {
        "revision": f"{files.name}@{files.digest}",
        "folder": str(files.folder.resolve()),
        "bytes": (files.folder / "model.bin").stat().st_size,
        "languages": list(files.languages),
        "has_card": bool(files.card),
    }


def _summary(row: dict[str, Any]) -> str:
    languages = ",".join(row["languages"]) if len(row["languages"]) <= 5 else f"{len(row['languages'])} languages"
    return f"{row['revision']}  {_size(row)}  {languages}  {row['policy']}  {row['folder']}"


def _size(row: dict[str, Any]) -> str:
    return f"{row['bytes'] / MEGABYTE:.0f} MB"
