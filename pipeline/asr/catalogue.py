"""The models of a deployment: found, checked and described at start-up, before any audio is taken. Nothing is loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.asr.loading import ModelFiles, resolve_model
from pipeline.asr.profiles import Catalogue, ModelProfile
from pipeline.core.errors import NotReadyError, UsageError
from pipeline.core.recognition import AUTOMATIC

if TYPE_CHECKING:
    from pipeline.runtime.settings import AsrSettings

PARAMETERS = (
    "policy",
    "step_seconds",
    "frame_threshold",
    "agreement",
    "padding_seconds",
    "prompt_tokens",
    "min_mean_log_probability",
    "sure_log_probability",
    "suppress_annotations",
)


def catalogue(asr: AsrSettings) -> Catalogue:
    """Return the default model and those of asr.models as profiles by name.

    A parameter is the setting's, else the card's, else `ModelProfile`'s. Raises NotReadyError when a model cannot be had or its
    card is wrong, UsageError when the settings contradict each other.
    """
    files = offered(asr)
    _check_known(asr.language, asr.model, files[asr.model])
    return catalogue_of(files, asr)


def offered(asr: AsrSettings, *, offline: bool = False) -> dict[str, ModelFiles]:
    """Return the files of the default model and of those in asr.models, by the names that settings and calls use.

    Models that are not on this machine yet are downloaded, unless ``offline``. Raises as `catalogue` does.
    """
    check_names(asr)
    return {name: resolve_model(name, cache=asr.model_cache, offline=offline) for name in asr.offered}


def catalogue_of(files: Mapping[str, ModelFiles], asr: AsrSettings) -> Catalogue:
    """Return the profiles of models whose files are known."""
    return Catalogue(default=asr.model, profiles={name: profile_of(name, found, asr) for name, found in files.items()})


def profile_of(name: str, files: ModelFiles, asr: AsrSettings) -> ModelProfile:
    """Return how the model ``name`` is used."""
    chosen = {parameter: getattr(asr, parameter) for parameter in PARAMETERS}
    given = {parameter: value for parameter, value in chosen.items() if value is not None}
    stated = {parameter: value for parameter, value in files.card.items() if parameter in PARAMETERS}
    revision = f"{files.name}@{files.digest}"
    return ModelProfile(
        name=name,
        revision=revision,
        languages=files.languages,
        is_multilingual=files.card.get("is_multilingual", False),
        **{**stated, **given},
    )


def check_language(asr: AsrSettings, language: str | None, model: str | None) -> None:
    """Raise UsageError when the model that a call asks for does not know the language it names (None: the settings').

    A model that is not on this machine cannot be asked; the worker that has it accounts for such speech.
    """
    name = model or asr.model
    try:
        files = resolve_model(name, cache=asr.model_cache, offline=True)
    except NotReadyError:
        return
    _check_known(language or asr.language, name, files)


def _check_known(language: str, name: str, files: ModelFiles) -> None:
    if language != AUTOMATIC and files.languages and language not in files.languages:
        known = ", ".join(files.languages) if len(files.languages) <= 10 else f"{len(files.languages)} others"
        raise UsageError(f"model {name!r} does not know language {language!r}; it knows {known}")


def kept(asr: AsrSettings) -> tuple[str, ...]:
    """Return the names of the models that stay loaded: the default one and the pinned ones."""
    return tuple(dict.fromkeys((asr.model, *asr.pinned)))


def check_names(asr: AsrSettings) -> None:
    """Raise UsageError when a pinned model is not on offer, or asr.max_loaded leaves no room for one that is."""
    names, staying = asr.offered, kept(asr)
    for name in asr.pinned:
        if name not in names:
            raise UsageError(f"setting asr.pinned: model {name!r} is neither asr.model nor among asr.models")
    needed = len(staying) + (len(staying) < len(names))
    if asr.max_loaded < needed:
        raise UsageError(
            f"setting asr.max_loaded is {asr.max_loaded}, but {needed} are needed: {len(staying)} models stay loaded"
            + (", and one more place serves the others" if needed > len(staying) else "")
        )
