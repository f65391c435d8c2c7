"""Where calls come from: files and folders, a watched folder, a pipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.ingest.decode import AudioSource, Readable, open_audio
from pipeline.ingest.formats import RawFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Something that becomes one call: a file, or a stream that is opened when its turn comes.

    ``call_id`` is set where an earlier run has begun to feed it. ``problem`` is set where it is known to be unusable. What is not
    ``is_repeatable`` cannot be read from its start again, as a live pipe.
    """

    name: str
    path: Path | None = None
    stream: Callable[[], Readable] | None = None
    call_id: str | None = None
    problem: str | None = None
    is_repeatable: bool = True

    def open(self, *, raw: RawFormat | None, max_channels: int) -> AudioSource:
        """Return the open source. Raises InputError naming it and the reason."""
        if self.problem is not None:
            raise InputError(self.name, self.problem)
        origin = self.path if self.path is not None else self.stream() if self.stream is not None else None
        if origin is None:
            raise InputError(self.name, "names neither a file nor a stream")
        return open_audio(origin, name=self.name, raw=raw, max_channels=max_channels)
