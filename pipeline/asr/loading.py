"""Where a model comes from: the shipped one, a folder, or a hub by name. Never another one than was asked for."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import NotReadyError

DEMO = "demo"
SHIPPED = Path(__file__).parent.parent / "demo" / "model"
WEIGHTS = "model.bin"
CARD = "card.json"
HUB_SECONDS = "5"
MEBIBYTE = 1 << 20

THREE_WAYS = (
    "Three ways to get a model: (1) on a machine that reaches a model hub, give its name (small, large-v3-turbo) and let it download; "
    "(2) copy a CTranslate2 Whisper folder (model.bin, config.json, tokenizer.json) here and give its path; "
    "(3) use the shipped demonstration model with --model demo."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model on disk. ``digest`` names its weights; ``card`` is what its ``card.json`` says, empty without one."""

    name: str
    folder: Path
    digest: str
    card: dict[str, Any] = field(default_factory=dict)


def resolve_model(name: str, *, cache: str = "") -> ModelFiles:
    """Return the files of model ``name``.

    ``demo``: the shipped model. A path: that folder. Anything else: a name known to faster-whisper or ``owner/name`` on
    the hub, downloaded to ``cache`` (default: the hub client's) unless it is there already.

    Raises NotReadyError saying what is wrong and the three ways to get a model.
    """
    if name == DEMO:
        return _files(DEMO, SHIPPED)
    path = Path(name).expanduser()
    if path.is_dir():
        return _files(path.resolve().name, path.resolve())
    if path.is_absolute() or name.startswith((".", "~")) or path.exists():
        raise NotReadyError(f"model {name}: there is no such folder. {THREE_WAYS}")
    return _files(name, _from_hub(name, cache))


def _files(name: str, folder: Path) -> ModelFiles:
    if not (folder / WEIGHTS).is_file():
        raise NotReadyError(f"model {name}: {folder} has no {WEIGHTS}, so it is not a CTranslate2 model. {THREE_WAYS}")
    card: dict[str, Any] = {}
    if (folder / CARD).is_file():
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    return ModelFiles(name=name, folder=folder, digest=_digest(folder / WEIGHTS), card=card)


def _digest(weights: Path) -> str:
    """Return 12 hex digits that name the weights: SHA-256 of their size and of their first and last MiB.

    Reading gigabytes at every start would cost more than it tells.
    """
    size = weights.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with weights.open("rb") as file:
        digest.update(file.read(MEBIBYTE))
        file.seek(max(0, size - MEBIBYTE))
        digest.update(file.read(MEBIBYTE))
    return digest.hexdigest()[:12]


def _from_hub(name: str, cache: str) -> Path:
    # The hub client reads these when it is imported; without them an unreachable hub takes minutes to say so.
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", HUB_SECONDS)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from faster_whisper.utils import download_model

    for local in (True, False):
        try:
            return Path(download_model(name, cache_dir=cache or None, local_files_only=local))
        except ValueError:
            raise NotReadyError(f"model {name}: neither a folder here nor a model name that faster-whisper knows. {THREE_WAYS}") from None
        except Exception as error:  # the hub client raises a dozen types, from its own to the HTTP library's
            reason = type(error).__name__
    raise NotReadyError(f"model {name}: not in the local cache, and the model hub cannot be reached ({reason}). {THREE_WAYS}")
