"""Recordings with references: the shipped benchmark calls, or any folder of recordings beside what is said in them.

The reference of ``name.wav`` (or any other recording that ingest reads) is one of

- ``name.json``, in the format of the shipped calls: ``utterances``, a list of ``channel``, ``text`` and, where known,
  ``start_seconds`` and ``end_seconds``; optional are ``channels``, a list of ``channel`` and ``role``, and ``kind``;
- ``name.txt``, the whole text of a recording of one channel;
- ``name.0.txt``, ``name.1.txt``, ..., the whole text of a channel each.

A channel that is neither listed nor spoken in ``name.json``, or has no text file, has no reference: what is heard on it
cannot be scored. Text is UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from pipeline.core.errors import UsageError
from pipeline.core.wer import normalise
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import default_role
from pipeline.ingest.sources.files import recordings_of

CALLS = Path(__file__).resolve().parent / "calls"

CHANNEL = re.compile(r"\.(0|[1-9]\d*)")

Kind = Literal["plain", "hard", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What is said in one go, in seconds from the start of the recording; None where the reference does not tell."""

    start_seconds: float | None
    end_seconds: float | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """An audio file and what is said in it.

    ``name`` is the path below the folder, without extension. ``kind`` is "" where the reference names none. ``roles``
    has every channel of the file, ``references`` those that can be scored; utterances are in the order they are spoken.
    """

    name: str
    path: Path
    kind: Kind
    roles: Mapping[int, str]
    references: Mapping[int, tuple[Utterance, ...]]

    def text(self, channel: int) -> str:
        """Return everything said on one channel, in order. Raises KeyError when the channel has no reference."""
        return " ".join(utterance.text for utterance in self.references[channel])

    @property
    def words(self) -> int:
        """Return the number of words of all references, counted as the word error rate counts them."""
        return sum(len(normalise(self.text(channel))) for channel in self.references)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _SpokenUtterance(_Strict):
    channel: int = Field(ge=0)
    text: str
    start_seconds: FiniteFloat | None = Field(default=None, ge=0)
    end_seconds: FiniteFloat | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.start_seconds is not None and self.end_seconds is not None and self.end_seconds <= self.start_seconds:
            raise PydanticCustomError("order", "end_seconds is not after start_seconds")
        return self


class _Channel(_Strict):
    channel: int = Field(ge=0)
    role: str = Field(min_length=1)


class _Document(_Strict):
    """What is read of ``name.json``; other fields are left alone."""

    utterances: tuple[_SpokenUtterance, ...]
    channels: tuple[_Channel, ...] = ()
    kind: Kind = ""


def recordings(folder: Path | None = None) -> tuple[Recording, ...]:
    """Return the recordings of a folder, and of folders below it, that have a reference, by name.

    None stands for the shipped calls. Raises UsageError, naming the file, where nothing has a reference or a reference
    is wrong, and InputError for a recording that cannot be read.
    """
    folder = folder or CALLS
    files = _files(folder)
    found = tuple(_read(name, path, beside) for name, (path, beside) in files.items() if beside)
    if not found:
        raise UsageError(f"{folder}: holds no recording with a reference (name.json, name.txt or name.<channel>.txt)")
    return found


def unreferenced(folder: Path) -> tuple[Path, ...]:
    """Return the recordings that `recordings` leaves out, because nothing tells what is said in them."""
    return tuple(path for path, beside in _files(folder).values() if not beside)


def _files(folder: Path) -> dict[str, tuple[Path, list[Path]]]:
    """Return every audio file with its references, sorted by name."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder" if folder.exists() else f"{folder}: does not exist")
    paths, problems = recordings_of(folder, is_raw=False)
    for problem in problems:
        raise UsageError(f"{problem.name}: {problem.problem}")
    audio = {path.with_suffix(""): path for path in paths}
    for path in paths:
        if (other := audio[path.with_suffix("")]) != path:
            raise UsageError(f"{path}: {other.name} has the same name, and both would share a reference")
    references: dict[Path, list[Path]] = {stem: [] for stem in audio}
    for file in sorted(file for parent in {path.parent for path in paths} for file in parent.iterdir()):
        if (stem := _stem(file, audio)) is not None:
            references[stem].append(file)
    names = {stem.relative_to(folder).as_posix(): stem for stem in audio}
    return {name: (audio[names[name]], references[names[name]]) for name in sorted(names)}


def _stem(file: Path, audio: Mapping[Path, Path]) -> Path | None:
    """Return what of its path a reference shares with its recording; None for other files."""
    stem = file.with_suffix("")
    if file.suffix == ".txt" and stem not in audio and CHANNEL.fullmatch(stem.suffix):
        stem = stem.with_suffix("")
    return stem if file.suffix in (".json", ".txt") and stem in audio else None


def _read(name: str, path: Path, files: list[Path]) -> Recording:
    with open_audio(path) as source:
        channels = source.channels
    roles = {channel: default_role(channel, channels) for channel in range(channels)}
    kind: Kind = ""
    is_whole = any(file.with_suffix("") == path.with_suffix("") for file in files)
    if is_whole and len(files) > 1:
        raise UsageError(f"{path}: has several references ({', '.join(file.name for file in files)}); keep one")
    if not is_whole:
        references = {int(file.stem.rpartition(".")[2]): _text(file) for file in files}
    elif files[0].suffix == ".txt":
        if channels > 1:
            raise UsageError(f"{files[0]}: {path.name} has {channels} channels; name each: {path.stem}.0.txt, ...")
        references = {0: _text(files[0])}
    else:
        document = _document(files[0])
        roles |= {entry.channel: entry.role for entry in document.channels}
        references = _by_channel(document)
        kind = document.kind
    if (last := max(references, default=0)) >= channels:
        raise UsageError(f"{files[-1]}: is for channel {last}; {path.name} has {channels}, counted from 0")
    return Recording(name=name, path=path, kind=kind, roles=roles, references=references)


def _document(file: Path) -> _Document:
    try:
        return _Document.model_validate_json(content_of(file))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{file}: {where + ': ' if where else ''}{first['msg']}") from None


def _by_channel(document: _Document) -> dict[int, tuple[Utterance, ...]]:
    """Return the utterances of every channel that is listed or spoken, by start where all of a channel have one."""
    spoken: dict[int, list[Utterance]] = {entry.channel: [] for entry in document.channels}
    for entry in document.utterances:
        spoken.setdefault(entry.channel, []).append(
            Utterance(start_seconds=entry.start_seconds, end_seconds=entry.end_seconds, text=entry.text)
        )
    for utterances in spoken.values():
        if None not in [utterance.start_seconds for utterance in utterances]:
            utterances.sort(key=lambda utterance: utterance.start_seconds or 0.0)
    return {channel: tuple(spoken[channel]) for channel in sorted(spoken)}


def _text(file: Path) -> tuple[Utterance, ...]:
    text = " ".join(content_of(file).split())
    return (Utterance(start_seconds=None, end_seconds=None, text=text),) if text else ()


def content_of(file: Path) -> str:
    """Return the text of a reference. Raises UsageError when it cannot be read, or is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is not UTF-8") from None
