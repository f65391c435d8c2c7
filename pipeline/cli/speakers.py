"""``callscribe speakers``: the known voices that diarization compares speakers with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import note, print_json, settings_of
from pipeline.core.errors import UsageError

if TYPE_CHECKING:
    from pipeline.diarize.voiceprints import Voiceprint
    from pipeline.runtime.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
File = Annotated[Path | None, typer.Option("--file", help="File of voices (default: the setting diarize.enrolled).")]

group = typer.Typer(
    no_args_is_help=True,
    help="Known voices: enrolled speakers are recognised in calls of one channel. The file is biometric data; treat it so.",
)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(group, name="speakers")


@group.command(
    epilog="Example: callscribe speakers enrol 'Ann Lee' ann-1.wav ann-2.wav --role agent --file voices.json"
)
def enrol(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the person, as transcripts show it.")],
    recordings: Annotated[
        list[Path], typer.Argument(help="Recordings in which nobody else speaks; 5 s of speech or more.")
    ],
    role: Annotated[str | None, typer.Option("--role", help="Role of the person in calls, such as agent.")] = None,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Add a voice to the file, or replace it. Workers read the file when they start."""
    from pipeline.bench.audio import channels_of
    from pipeline.diarize import voiceprints
    from pipeline.diarize.card import distances_of
    from pipeline.diarize.enrolling import enrol as voice_of
    from pipeline.diarize.loading import check_extra
    from pipeline.diarize.stage import SPEC, models_of

    settings = settings_of(context)
    path = _path(settings, file)
    check_extra()
    model = models_of(settings.diarize)[1].revision
    known = voiceprints.read(path, model=model) if path.exists() else {}
    diarize = settings.diarize.model_copy(update={"engine": "diart"})
    engine = SPEC.make_engine(settings.model_copy(update={"diarize": diarize}))
    assert engine is not None
    heard = [(str(one), channel) for one in recordings for channel in channels_of(one)]
    voice = voice_of(
        heard,
        engine,
        window_seconds=diarize.window_seconds,
        threshold=diarize.threshold,
        similarity=distances_of(diarize.embedding).enrolment_similarity,
        role=role or None,
    )
    voiceprints.write(path, known | {name: voice}, model=model)
    if as_json:
        print_json({"name": name, "role": role, "seconds": round(voice.seconds, 2), "file": str(path)})
        return
    typer.echo(f"{name}: {voice.seconds:.1f} s of speech, in {path}")
    if str(path) != settings.diarize.enrolled:
        note(f"Workers use it with CALLSCRIBE_DIARIZE__ENROLLED={path}")


@group.command(name="list", epilog="Example: callscribe speakers list --file voices.json")
def list_speakers(context: typer.Context, file: File = None, as_json: Json = False) -> None:
    """Show the names in the file, with their roles and how much speech each was made from."""
    found = _known(context, file)[1]
    if as_json:
        rows = [
            {"name": name, "role": one.role, "seconds": round(one.seconds, 2)} for name, one in sorted(found.items())
        ]
        print_json({"speakers": rows})
        return
    for name, one in sorted(found.items()):
        typer.echo(f"{name}  {one.role or '-'}  {one.seconds:.1f} s")


@group.command(epilog="Example: callscribe speakers remove 'Ann Lee' --file voices.json")
def remove(context: typer.Context, name: Annotated[str, typer.Argument()], file: File = None) -> None:
    """Delete a voice from the file. Workers that run have read it before; restart them."""
    from pipeline.diarize import voiceprints

    path, found, model = _known(context, file)
    if name not in found:
        raise UsageError(f"no voice {name[:64]!r} in {path}")
    voiceprints.write(path, {other: one for other, one in found.items() if other != name}, model=model)
    typer.echo(f"{name} removed from {path}")


def _known(context: typer.Context, file: Path | None) -> tuple[Path, dict[str, Voiceprint], str]:
    """Return the file, the voices in it by name, and the model that heard them."""
    from pipeline.diarize import voiceprints

    path = _path(settings_of(context), file)
    model = voiceprints.model_of(path)
    return path, voiceprints.read(path, model=model), model


def _path(settings: Settings, file: Path | None) -> Path:
    if file is None and not settings.diarize.enrolled:
        raise UsageError("no file of voices: give --file, or set diarize.enrolled")
    return file or Path(settings.diarize.enrolled).expanduser()
