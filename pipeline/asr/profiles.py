"""What is known of a model before it is loaded: its revision, its languages, and how it wants to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.core.recognition import PolicyName


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """A model that calls may use.

    ``name`` is what settings and calls say, ``revision`` what records say (name@digest). ``languages`` is empty when the
    model is not known to be limited. ``is_multilingual`` is true where the card says so, see `ModelCard`; of other models the
    size of the vocabulary tells. ``frame_threshold`` counts encoder frames of 20 ms and serves AlignAtt, ``agreement`` is the n
    of LocalAgreement-n. Text of a mean token log probability below ``sure_log_probability`` waits while its utterance is open,
    below ``min_mean_log_probability`` it is refused at the end. ``suppress_annotations``: signs like those around [music] are
    never text; a model that writes none is faster without.
    """

    name: str
    revision: str
    languages: tuple[str, ...] = ()
    is_multilingual: bool = False
    policy: PolicyName = "alignatt"
    step_seconds: float = 1.2
    frame_threshold: int = 25
    agreement: int = 2
    padding_seconds: float = 0.5
    prompt_tokens: int = 48
    min_mean_log_probability: float = -2.0
    sure_log_probability: float = -1.0
    suppress_annotations: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The models of a deployment by name."""

    default: str
    profiles: Mapping[str, ModelProfile]

    def find(self, name: str | None) -> ModelProfile | None:
        """Return the profile of ``name`` (None: the default model), None when the deployment does not offer it."""
        return self.profiles.get(self.default if name is None else name)
