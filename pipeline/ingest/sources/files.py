"""Files and folders as sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.ingest.formats import EXTENSIONS, RAW_EXTENSIONS
from pipeline.ingest.sources import Source


def recordings_of(folder: Path, *, is_raw: bool) -> tuple[list[Path], list[Source]]:
    """Return the recordings in ``folder`` and below, sorted, and what could not be looked into.

    By extension: those of raw audio when ``is_raw``, those of containers otherwise. Hidden files and folders are left
    out: programs write there what is not finished.
    """
    extensions = RAW_EXTENSIONS if is_raw else EXTENSIONS
    problems: list[Source] = []

    def refuse(error: OSError) -> None:
        problems.append(Source(name=str(error.filename), problem=f"cannot be read ({error.strerror})"))

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in extensions:
                found.append(path)
    return sorted(found), problems


def find_sources(path: Path, *, is_raw: bool) -> Iterator[Source]:
    """Yield what ``path`` stands for: itself, or every recording of a folder. An empty folder is unusable."""
    if not path.is_dir():
        yield Source(name=str(path), path=path)
        return
    recordings, problems = recordings_of(path, is_raw=is_raw)
    yield from problems
    yield from (Source(name=str(recording), path=recording) for recording in recordings)
    if not recordings and not problems:
        kinds = ", ".join(sorted(RAW_EXTENSIONS if is_raw else EXTENSIONS))
        yield Source(name=str(path), problem=f"is a folder without recordings ({kinds})")
