"""Finds diarization models by name: the shipped ones, a local checkpoint of pyannote.audio, or a model of the hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import NotReadyError
from pipeline.diarize.card import DIGEST_CHARACTERS, ENCODER, FOLDER, SEGMENTATION, SHIPPED, digest_of, shipped_card
from pipeline.hub import unreachable

EXTRA = ("torch", "torchaudio", "pyannote.audio", "diart")
CHECKPOINT = "pytorch_model.bin"  # pyannote.audio's name in a folder, and on the hub
HUB_TIMEOUT_SECONDS = 8.0
WAYS = (
    "ways to get a model: the shipped one (leave the setting empty), a checkpoint file of pyannote.audio or the folder that holds its "
    f"{CHECKPOINT}, or organisation/name of the hub, with diarize.hub_token where its terms have to be accepted first"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model on this machine's disk. ``name`` is what settings say, ``revision`` what states say (name@digest)."""

    name: str
    path: Path
    revision: str

    @property
    def is_shipped(self) -> bool:
        """Return whether it comes with callscribe."""
        return self.name == SHIPPED


def missing_extra() -> tuple[str, ...]:
    """Return the packages of the ``diarization`` extra that are not installed."""
    return tuple(name for name in EXTRA if not _is_installed(name))


def check_extra() -> None:
    """Raise NotReadyError when the ``diarization`` extra is not installed."""
    if missing := missing_extra():
        raise NotReadyError(
            f"diarize.engine is diart, and {', '.join(missing)} of the extra `diarization` cannot be found: `make setup-full` "
            "installs it (requirements/diarization.txt); diarize.engine = channel does without"
        )


def find_model(
    name: str, kind: str, *, token: str = "", cache: str = "", hub_timeout_seconds: float = HUB_TIMEOUT_SECONDS
) -> FoundModel:
    """Return the files of a model; ``kind`` is ``segmentation`` or ``embedding``, ``name`` as in the settings (empty: shipped).

    A hub model that is in ``cache`` (empty: the hub client's own) is used without asking the hub. Raises NotReadyError naming the
    setting, the model and what is wrong. Never falls back to another model.
    """
    if name in ("", SHIPPED):
        digests = shipped_card().sha256
        path = FOLDER / (SEGMENTATION if kind == "segmentation" else ENCODER)
        return FoundModel(name=SHIPPED, path=path, revision=f"{SHIPPED}@{digests[path.name][:DIGEST_CHARACTERS]}")
    local = Path(name).expanduser()
    if local.is_dir():
        local = local / CHECKPOINT
    is_place = name.startswith(("/", "./", "../", "~")) or name.count("/") != 1 or "\\" in name
    if local.is_file() or is_place:
        if not local.is_file():
            raise _not_ready(kind, name, "no such file")
        return FoundModel(name=name, path=local.resolve(), revision=f"{local.stem}@{digest_of(local)}")
    path = _from_hub(name, kind, token, cache, hub_timeout_seconds)
    return FoundModel(name=name, path=path, revision=f"{name}@{digest_of(path)}")


def _from_hub(name: str, kind: str, token: str, cache: str, timeout_seconds: float) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(
            hf_hub_download(
                repository, CHECKPOINT, revision=revision or None, cache_dir=cache or None, local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        pass
    except HFValidationError:
        raise _not_ready(kind, name, "not a name of the form organisation/name") from None
    if reason := unreachable(timeout_seconds):
        raise _not_ready(kind, name, f"neither here nor in the cache, and the model hub cannot be reached ({reason})")
    try:
        return Path(
            hf_hub_download(
                repository, CHECKPOINT, revision=revision or None, cache_dir=cache or None, token=token or None
            )
        )
    except Exception as error:  # the client's tree is wide and moves between versions; anything here means no model
        answer = error if isinstance(error, HfHubHTTPError) else error.__cause__
        if not isinstance(answer, HfHubHTTPError):
            raise _not_ready(kind, name, f"the download failed ({type(error).__name__})") from None
        status = answer.response.status_code
        refused = "no such model, or its terms were not accepted for this token"
        reason = refused if status in (401, 403, 404) else "try again later"
        raise _not_ready(kind, name, f"the model hub answered HTTP {status}: {reason}") from None


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent package is not there
        return False


def _not_ready(kind: str, name: str, reason: str) -> NotReadyError:
    return NotReadyError(f"diarize.{kind} {name!r}: {reason}; {WAYS}")
