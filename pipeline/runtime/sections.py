"""What the sections of the settings are made of, and the section of the assemble stage."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

ROLE = r"^[A-Za-z0-9._-]{1,64}$"


def _names(value: Any) -> Any:
    """Split the comma-separated names of an environment variable or a flag."""
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AssembleSettings(Section):
    """How words become segments."""

    sentence_seconds: float = Field(15.0, gt=0)
    max_segment_seconds: float = Field(30.0, gt=0)
    speaker_wait_seconds: float = Field(
        5.0, gt=0, description="Audio that diarize goes on past a word before its speaker is unknown"
    )
    longest_speaker_wait_seconds: float = Field(
        600.0, ge=60, description="Audio that diarize may be behind asr before words of a mixed channel stop waiting"
    )
    role_rule: Literal["none", "first", "longest", "phrase"] = Field(
        "none",
        description="Which speaker of a mixed channel has first_role: who speaks first, longest, or says one of role_phrases",
    )
    first_role: str = Field("agent", pattern=ROLE)
    other_role: str = Field("customer", pattern=ROLE, description="Of the others, once the rule has picked a speaker")
    role_phrases: Names = Field((), description="Case, punctuation and spacing do not matter")

    @model_validator(mode="after")
    def _check_phrases(self) -> Self:
        if self.role_rule == "phrase" and not self.role_phrases:
            raise ValueError("role_rule phrase needs role_phrases")
        return self
