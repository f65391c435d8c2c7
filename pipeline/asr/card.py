"""A model's card: what its folder says, in ``card.json``, about how the model wants to be used. Every field may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from pipeline.core.languages import unknown_language
from pipeline.core.recognition import PolicyName

FILE = "card.json"


def _known(code: str) -> str:
    if problem := unknown_language(code):
        raise ValueError(problem)
    return code


def _beside(name: str) -> str:
    if not name or Path(name).name != name:
        raise ValueError("must be the name of a file beside the card")
    return name


Language = Annotated[str, AfterValidator(_known)]


class SelfTest(TypedDict):
    """A recording beside the card (mono, 16 kHz), and the text that a sound copy of the model writes for it."""

    audio: Annotated[str, AfterValidator(_beside)]
    language: NotRequired[Language]
    text: str


class ModelCard(TypedDict, total=False):
    """``card.json``. What the settings call by the same name has the same unit and limits there; unknown fields are ignored.

    ``sha256`` and ``bytes`` describe ``model.bin``. ``languages`` are those the model is good at. CTranslate2 tells multilingual
    models, whose transcripts start with language and task, by the size of their vocabulary; one whose vocabulary was cut says
    so by ``is_multilingual``. It cannot detect a language: where none is given it takes the first of ``languages``.
    """

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]

    name: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=1)]
    languages: Annotated[list[Language], Field(min_length=1)]
    is_multilingual: bool
    padding_seconds: Annotated[float, Field(ge=0.0, le=30.0)]
    min_mean_log_probability: Annotated[float, Field(le=0.0, allow_inf_nan=False)]
    sure_log_probability: Annotated[float, Field(le=0.0, allow_inf_nan=False)]
    suppress_annotations: bool
    prompt_tokens: Annotated[int, Field(ge=0, le=224)]
    policy: PolicyName
    step_seconds: Annotated[float, Field(ge=0.2, le=5.0)]
    frame_threshold: Annotated[int, Field(ge=1, le=200)]
    agreement: Annotated[int, Field(ge=2, le=5)]
    self_test: SelfTest


def read_card(folder: Path) -> ModelCard:
    """Return the card in a model's folder, empty when there is none. Raises ValueError that names the file and the field."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        return TypeAdapter(ModelCard).validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "json_invalid":
            raise ValueError(f"{path} is not JSON") from None
        if not field:
            raise ValueError(f"{path} is not a JSON object") from None
        raise ValueError(f"{path}: {field}: {first['msg'].removeprefix('Value error, ')}") from None
