"""What is known of diarization models without loading them: the shipped ones by their card, others by what is said here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import NotReadyError

FOLDER = Path(__file__).parent / "model"
SHIPPED = "shipped"
DIGEST_CHARACTERS = 12
ENCODER = "encoder.pt"
SEGMENTATION = "segmentation.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceDistances:
    """What cosine distances of an embedding model mean; see `pipeline.diarize.partition.ClusteringConfig`."""

    distance: float
    distance_seconds: float
    enrolment_similarity: float


# Models whose distances somebody has measured or published; the others take the last one.
DISTANCES: dict[str, VoiceDistances] = {
    SHIPPED: VoiceDistances(distance=0.075, distance_seconds=0.22, enrolment_similarity=0.85),
    # Cosine distances of ECAPA and ResNet encoders are wider: pyannote's pipelines cut at 0.7 (speaker-diarization-3.1), diart at 1.0.
    "": VoiceDistances(distance=0.5, distance_seconds=0.1, enrolment_similarity=0.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """The shipped models' ``card.json``: name, weights' digests by file, and measured figures."""

    name: str
    sha256: dict[str, str]
    figures: dict[str, Any] = field(default_factory=dict)


def distances_of(embedding: str) -> VoiceDistances:
    """Return what the distances of an embedding model, named as in the settings, mean."""
    return DISTANCES.get(embedding or SHIPPED, DISTANCES[""])


def shipped_card(folder: Path = FOLDER) -> ModelCard:
    """Return the card of the shipped models. Raises NotReadyError when it or a file is missing or is not what the card says."""
    path = folder / "card.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        card = ModelCard(name=document["name"], sha256=document["sha256"], figures=document.get("figures", {}))
    except (OSError, ValueError, KeyError) as error:
        raise NotReadyError(
            f"the shipped diarization models have no usable card: {path} ({type(error).__name__})"
        ) from None
    for name, digest in card.sha256.items():
        if digest_of(folder / name) != digest[:DIGEST_CHARACTERS]:
            raise NotReadyError(f"{folder / name} is damaged or not the one its card.json describes")
    return card


def digest_of(path: Path) -> str:
    """Return the first 12 hexadecimal digits of a file's SHA-256. Raises NotReadyError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_CHARACTERS]
    except OSError as error:
        raise NotReadyError(f"{path} cannot be read ({error.strerror})") from None
