"""Recordings with references in RTTM: the shipped calls, or any folder.

The reference of ``name.wav`` (or any other recording that ingest reads) is ``name.rttm`` beside it, or the lines with the file id
``name`` of another ``.rttm`` file beside it or in the folder itself. ``name.rttm`` may use another file id when it is the only one.
``name.json``, in the format of the shipped calls, may add what is said: ``utterances``, a list of ``speaker``, ``text``,
``start_seconds`` and ``end_seconds``. All times are seconds from the start of the recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from pipeline.bench.diarization.spans import Span, merged
from pipeline.bench.recordings import content_of
from pipeline.core.errors import UsageError
from pipeline.core.rttm import SpeakerTurn, read_rttm
from pipeline.ingest.sources.files import recordings_of

CALLS = Path(__file__).resolve().parent / "calls"

Speech = Mapping[str, tuple[Span, ...]]  # by speaker or label, in order, without overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenWord:
    """A word of the reference. Words of an utterance are taken to be as long as they have letters."""

    speaker: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """An audio file, and who speaks when in it. ``name`` is the path below the folder, without extension."""

    name: str
    path: Path
    turns: tuple[SpeakerTurn, ...]
    words: tuple[SpokenWord, ...] = ()

    @property
    def group(self) -> str:
        """Return what precedes the last dash of the name: the shipped calls of a kind."""
        return self.name.rpartition("-")[0] or self.name

    @property
    def speech(self) -> Speech:
        """Return where each speaker speaks, by name."""
        return speech_of((turn.speaker, turn.start_seconds, turn.end_seconds) for turn in self.turns)


def speech_of(turns: Iterable[tuple[str, float, float]]) -> Speech:
    """Return turns (speaker, start, end) by speaker, those that touch or overlap as one."""
    spans: dict[str, list[Span]] = {}
    for speaker, start, end in turns:
        spans.setdefault(speaker, []).append((start, end))
    found = {speaker: merged(spans[speaker]) for speaker in sorted(spans)}
    return {speaker: own for speaker, own in found.items() if own}


class _Loose(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Utterance(_Loose):
    speaker: str | None = None
    text: str
    start_seconds: FiniteFloat | None = Field(default=None, ge=0)
    end_seconds: FiniteFloat | None = Field(default=None, ge=0)


class _Document(_Loose):
    utterances: tuple[_Utterance, ...] = ()


def recordings(folder: Path | None = None) -> tuple[Recording, ...]:
    """Return the recordings of a folder, and of folders below it, that have a reference, by name.

    None stands for the shipped calls. Raises UsageError, naming the file, where nothing has a reference or one is wrong.
    """
    folder = folder or CALLS
    files = _files(folder)
    found = [
        Recording(name=name, path=path, turns=turns, words=_words(path.with_suffix(".json")))
        for name, path in files.items()
        if (turns := _turns(path, folder)) is not None
    ]
    if not found:
        raise UsageError(f"{folder}: holds no recording with a reference (name.rttm, or an .rttm that names its file)")
    return tuple(found)


def unreferenced(folder: Path, found: Sequence[Recording]) -> tuple[Path, ...]:
    """Return the recordings of a folder that ``found`` leaves out, because nothing tells who speaks in them."""
    known = {recording.path for recording in found}
    return tuple(path for path in _files(folder).values() if path not in known)


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder" if folder.exists() else f"{folder}: does not exist")
    paths, problems = recordings_of(folder, is_raw=False)
    for problem in problems:
        raise UsageError(f"{problem.name}: {problem.problem}")
    files: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise UsageError(f"{path}: {files[name].name} has the same name, and both would share a reference")
        files[name] = path
    return {name: files[name] for name in sorted(files)}


def _turns(path: Path, folder: Path) -> tuple[SpeakerTurn, ...] | None:
    """Return the turns of a recording, None where no file tells them."""
    own = path.with_suffix(".rttm")
    if own.is_file():
        turns = _read(own)
        if len({turn.file for turn in turns}) <= 1:
            return turns
        turns = tuple(turn for turn in turns if turn.file == path.stem)
        if not turns:
            raise UsageError(f"{own}: is of several files, none of them {path.stem}")
        return turns
    naming: dict[Path, tuple[SpeakerTurn, ...]] = {}
    for file in sorted({*path.parent.glob("*.rttm"), *folder.glob("*.rttm")}):
        if turns := tuple(turn for turn in _read(file) if turn.file == path.stem):
            naming[file] = turns
    if len(naming) > 1:
        raise UsageError(f"{path}: has several references ({', '.join(file.name for file in naming)}); keep one")
    return next(iter(naming.values()), None)


def _read(file: Path) -> tuple[SpeakerTurn, ...]:
    return read_rttm(content_of(file), name=str(file))


def _words(file: Path) -> tuple[SpokenWord, ...]:
    """Return the words of the utterances that have a speaker and times; none where there is no such file."""
    if not file.is_file():
        return ()
    try:
        document = _Document.model_validate_json(content_of(file))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{file}: {where + ': ' if where else ''}{first['msg']}") from None
    return tuple(word for utterance in document.utterances for word in _spread(utterance))


def _spread(utterance: _Utterance) -> tuple[SpokenWord, ...]:
    start, end, texts = utterance.start_seconds, utterance.end_seconds, utterance.text.split()
    if utterance.speaker is None or start is None or end is None or end <= start:
        return ()
    edges = [0]
    for text in texts:
        edges.append(edges[-1] + len(text))
    step = (end - start) / max(edges[-1], 1)
    return tuple(
        SpokenWord(speaker=utterance.speaker, start_seconds=start + low * step, end_seconds=start + high * step)
        for low, high in pairwise(edges)
    )
