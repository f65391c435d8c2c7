"""Finds a model's files by name: the shipped demo model, a local folder, or a faster-whisper model from the hub."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

from pipeline.asr.card import ModelCard, read_card
from pipeline.core.errors import NotReadyError
from pipeline.core.languages import LANGUAGES
from pipeline.demo.assets import MODEL as DEMO_MODEL
from pipeline.hub import unreachable

log = logging.getLogger(__name__)

DEMO = "demo"
DIGEST_CHARACTERS = 12
HUB_TIMEOUT_SECONDS = 8.0
HASHED_WHOLE_BYTES = 256 * 1024 * 1024  # larger files are told apart by size, first and last MiB
SAMPLED_BYTES = 1024 * 1024
MULTILINGUAL_VOCABULARY = 51_865  # tokens; CTranslate2 takes a model with fewer for an English one, a card may not
CARD_FILES = ("card.json", "*.flac", "*.wav")  # what faster-whisper does not download
NOT_FETCHED = "not in the cache, and downloads are off"
NO_HUB_NAME = "no such folder, and not a name of the form organisation/name"
THREE_WAYS = (
    "three ways to get a model: (1) on a machine with access to the hub, name it (--model small, large-v3-turbo, "
    "organisation/name) and it is downloaded once; (2) copy a folder converted for CTranslate2 here (callscribe models "
    "download NAME --to FOLDER makes one) and give its path (--model ./folder); (3) --model demo, the shipped model, which "
    "knows synthetic speech only"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model on this machine's disk.

    ``digest`` tells revisions apart: 12 hexadecimal digits, see `digest_of`. ``card`` is empty when the folder has none.
    ``languages`` are those of the card, without a card those of the model's vocabulary, by code.
    """

    name: str
    folder: Path
    digest: str
    card: ModelCard
    languages: tuple[str, ...]


def resolve_model(
    name: str, *, cache: str = "", offline: bool = False, hub_timeout_seconds: float = HUB_TIMEOUT_SECONDS
) -> ModelFiles:
    """Return the files of the model ``name``: ``demo``, a local folder, a faster-whisper name, or ``organisation/name``.

    A hub model that is already in ``cache`` (empty: the hub client's own) is used without asking the hub. Otherwise it
    is downloaded, unless ``offline``; a hub that does not answer within ``hub_timeout_seconds`` counts as unreachable.
    Raises NotReadyError naming the model, what is wrong, and the ways to get one. Never falls back to another model.
    """
    folder = _local(name)
    if folder is not None:
        return _files(name if name == DEMO else folder.name, folder, given=name)
    return _files(name, _from_hub(name, cache or None, offline, hub_timeout_seconds), given=name)


def download_model(name: str, folder: Path, *, hub_timeout_seconds: float = HUB_TIMEOUT_SECONDS) -> ModelFiles:
    """Fetch a hub model into ``folder``, which is made, and return its files; what is there already is not fetched again.

    Raises NotReadyError as `resolve_model` does, and when ``name`` is no hub model.
    """
    if _local(name) is not None:
        raise _not_ready(name, "already on this machine, there is nothing to download")
    _check_hub_name(name)
    if reason := unreachable(hub_timeout_seconds):
        raise _not_ready(name, f"the model hub cannot be reached ({reason})")
    return _files(name, _download(name, folder=folder), given=name)


def digest_of(weights: Path, card: ModelCard | None = None) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of ``model.bin``.

    Files above 256 MiB are not read whole: the card's ``sha256`` is taken if its ``bytes`` is the file's size, else the
    SHA-256 of the decimal size, the first and the last MiB. Raises NotReadyError when a card describes other weights.
    """
    card = card or {}
    size = weights.stat().st_size
    stated = str(card.get("sha256", ""))
    if card.get("bytes", size) != size:
        raise _not_ready(str(weights.parent), f"model.bin has {size} bytes, its card.json says {card['bytes']}")
    if size <= HASHED_WHOLE_BYTES:
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if stated and found != stated:
            raise _not_ready(str(weights.parent), "model.bin is damaged or not the one its card.json describes")
        return found[:DIGEST_CHARACTERS]
    if stated and "bytes" in card:
        return stated[:DIGEST_CHARACTERS]
    with weights.open("rb") as file:
        sample = hashlib.sha256(str(size).encode())
        sample.update(file.read(SAMPLED_BYTES))
        file.seek(-SAMPLED_BYTES, 2)
        sample.update(file.read(SAMPLED_BYTES))
    return sample.hexdigest()[:DIGEST_CHARACTERS]


def _files(name: str, folder: Path, *, given: str) -> ModelFiles:
    if missing := _missing(folder):
        raise _not_ready(given, f"not a Whisper model converted for CTranslate2, {folder} has no {missing}")
    try:
        card = read_card(folder)
        is_multilingual = card.get("is_multilingual", False)
        taught = _languages(folder, is_multilingual=is_multilingual)
        if is_multilingual and "languages" not in card:
            raise ValueError("its card.json says is_multilingual, and must name the languages")
        if strange := [code for code in card.get("languages", ()) if code not in taught]:
            raise ValueError(f"its card.json names languages that its vocabulary lacks: {', '.join(strange)}")
        digest = digest_of(folder / "model.bin", card)
    except ValueError as error:
        raise _not_ready(given, str(error)) from None
    except OSError as error:
        raise _not_ready(given, f"{error.filename or folder} cannot be read ({error.strerror})") from None
    return ModelFiles(
        name=name, folder=folder, digest=digest, card=card, languages=tuple(card.get("languages", taught))
    )


def _languages(folder: Path, *, is_multilingual: bool) -> tuple[str, ...]:
    """Return the languages a model has tokens for. Raises ValueError when its vocabulary is damaged, or has none."""
    path = next(iter(sorted(folder.glob("vocabulary.*"))))
    text = path.read_text(encoding="utf-8")
    try:
        tokens = set(json.loads(text)) if path.suffix == ".json" else set(text.splitlines())
    except (ValueError, TypeError):
        raise ValueError(f"{path} is not a JSON list") from None
    if len(tokens) < MULTILINGUAL_VOCABULARY and not is_multilingual:
        return ("en",)
    if not (found := tuple(sorted(code for code in LANGUAGES if f"<|{code}|>" in tokens))):
        raise ValueError(f"{path} has no token of a language")
    return found


def _missing(folder: Path) -> str | None:
    """Return the first file that a model needs and the folder lacks. Without tokenizer.json faster-whisper asks the hub."""
    for file in ("model.bin", "config.json", "tokenizer.json"):
        if not (folder / file).is_file():
            return file
    return None if any(folder.glob("vocabulary.*")) else "vocabulary.json"


def _local(name: str) -> Path | None:
    """Return the folder of a model that is named by its place, None for the name of a hub model."""
    if name == DEMO:
        return DEMO_MODEL
    if not name.strip():
        raise _not_ready(name, "no name was given")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise _not_ready(name, "a file; the model is the folder that holds model.bin")
    if name.startswith(("/", "./", "../", "~")) or name.endswith("/") or name.count("/") > 1 or "\\" in name:
        raise _not_ready(name, "no such folder")
    return None


def _from_hub(name: str, cache: str | None, offline: bool, timeout_seconds: float) -> Path:
    import faster_whisper
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    _check_hub_name(name)
    try:
        cached = Path(faster_whisper.download_model(name, cache_dir=cache, local_files_only=True))
        if not _missing(cached):  # a download that was interrupted leaves a folder without all files
            return cached
    except LocalEntryNotFoundError:
        pass
    except HFValidationError:
        raise _not_ready(name, NO_HUB_NAME) from None
    if offline:
        raise _not_ready(name, NOT_FETCHED)
    if reason := unreachable(timeout_seconds):
        raise _not_ready(
            name, f"neither a folder here nor in the cache, and the model hub cannot be reached ({reason})"
        )
    return _download(name, cache=cache)


def _check_hub_name(name: str) -> None:
    """Raise NotReadyError for a name without organisation that faster-whisper does not know."""
    import faster_whisper

    if "/" not in name and name not in faster_whisper.available_models():
        known = ", ".join(faster_whisper.available_models())
        raise _not_ready(name, f"neither a folder here nor a name that faster-whisper knows ({known})")


def _download(name: str, *, cache: str | None = None, folder: Path | None = None) -> Path:
    """Fetch a model into the cache or a folder and, where its repository is named, the card with its recording."""
    import faster_whisper
    from faster_whisper.utils import disabled_tqdm
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    log.info("downloading model %s", name)
    place = None if folder is None else str(folder)
    try:
        if "/" in name:
            patterns = list(CARD_FILES)
            snapshot_download(
                name, cache_dir=cache, local_dir=folder, allow_patterns=patterns, tqdm_class=disabled_tqdm
            )
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # faster-whisper's own, of an old option
            return Path(faster_whisper.download_model(name, cache_dir=cache, output_dir=place))
    except HFValidationError:
        raise _not_ready(name, NO_HUB_NAME) from None
    except Exception as error:  # the client's tree is wide and moves between versions; anything here means no model
        answer = error if isinstance(error, HfHubHTTPError) else error.__cause__  # the client may wrap the hub's answer
        if not isinstance(answer, HfHubHTTPError):
            raise _not_ready(name, f"the download failed ({type(answer or error).__name__})") from None
        status = answer.response.status_code
        reason = "no such model, or no access to it" if status in (401, 403, 404) else "try again later"
        raise _not_ready(name, f"the model hub answered HTTP {status}: {reason}") from None


def _not_ready(name: str, reason: str) -> NotReadyError:
    return NotReadyError(f"model {name!r}: {reason}; {THREE_WAYS}")
