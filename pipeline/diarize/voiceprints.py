"""The file of known voices: JSON, one embedding a voice, made by one embedding model. It is biometric data of persons."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.diarize.enrolment import Enrolled
from pipeline.diarize.points import unit
from pipeline.diarize.window import Floats

NAME = re.compile(r"[\w .'-]{1,64}")
MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Voiceprint:
    """An enrolled voice: float32 [dimensions] of length one, from ``seconds`` of speech."""

    role: str | None
    embedding: Floats
    seconds: float


def read_voiceprints(path: str, *, model: str, similarity: float) -> Enrolled:
    """Return the voices of a file. Raises NotReadyError when it cannot be used, or holds embeddings of another model."""
    found = read(Path(path).expanduser(), model=model)
    if not found:
        raise NotReadyError(f"diarize.enrolled: {path} holds no voice")
    names = tuple(sorted(found))
    return Enrolled(
        names=names,
        roles=tuple(found[name].role for name in names),
        embeddings=unit(np.stack([found[name].embedding for name in names])),
        similarity=similarity,
    )


def model_of(path: Path) -> str:
    """Return the revision of the embedding model that made a file. Raises NotReadyError when it cannot be used."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["model"])
    except OSError as error:
        raise NotReadyError(f"the file of known voices cannot be read: {path} ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NotReadyError(f"not a file of known voices: {path} ({type(error).__name__})") from None


def read(path: Path, *, model: str) -> dict[str, Voiceprint]:
    """Return the voices of a file by name. Raises NotReadyError when it cannot be used, or holds embeddings of another model."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["model"] != model:
            raise NotReadyError(f"{path} holds voices as {document['model']} hears them, not {model}: enrol them again")
        found = {
            name: Voiceprint(
                role=one["role"],
                embedding=np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4").astype(np.float32),
                seconds=float(one["seconds"]),
            )
            for name, one in document["voices"].items()
        }
    except OSError as error:
        raise NotReadyError(f"the file of known voices cannot be read: {path} ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotReadyError(f"not a file of known voices: {path} ({type(error).__name__})") from None
    sizes = {len(voice.embedding) for voice in found.values()}
    if len(sizes) > 1 or any(not np.isfinite(voice.embedding).all() for voice in found.values()):
        raise NotReadyError(f"not a file of known voices: {path} (embeddings of different sizes, or not numbers)")
    return found


def write(path: Path, voices: Mapping[str, Voiceprint], *, model: str) -> None:
    """Write the voices, readable by the owner alone. Raises UsageError for a name that is none, or too many voices."""
    for name in voices:
        if not NAME.fullmatch(name):
            raise UsageError(
                f"the name of a voice has 1 to 64 letters, digits, spaces, dots, hyphens or apostrophes, not {name[:64]!r}"
            )
    if len(voices) > MOST:
        raise UsageError(f"{len(voices)} voices; at most {MOST} are kept in one file")
    document = {
        "model": model,
        "voices": {
            name: {
                "role": voice.role,
                "seconds": round(voice.seconds, 2),
                "embedding": base64.b64encode(voice.embedding.astype("<f4").tobytes()).decode("ascii"),
            }
            for name, voice in sorted(voices.items())
        },
    }
    partial = path.with_name(f"{path.name}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    os.replace(partial, path)
