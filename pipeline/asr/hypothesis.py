"""What the recogniser says about a window, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAME = 320  # samples at 16 kHz in one encoder frame (20 ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class HypothesisWord:
    """One word of a hypothesis with the tokens it is made of.

    ``frames`` are the first attended encoder frame of each token, counted from the start of the window; ``end_frame`` is
    that of the token behind the word. ``is_joined``: no space before it.
    """

    text: str
    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    end_frame: int
    log_probabilities: tuple[float, ...]
    is_joined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """The words behind the forced prefix of a window. ``end_frame`` is the frame attended at the end of the text.

    ``no_speech_probability`` is known where the model was not sure of the text, else 0. ``is_capped``: decoding was stopped
    by its limit of new tokens, not by the model. ``language`` and its probability are set when the work asked for detection.
    """

    words: tuple[HypothesisWord, ...]
    end_frame: int
    no_speech_probability: float
    is_capped: bool = False
    language: str | None = None
    language_probability: float | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AsrWork:
    """One window to decode.

    ``audio`` int16 [samples] at 16 kHz, without padding. ``prefix`` are the committed tokens of the window, which the
    decoder is forced to repeat; ``prompt_tokens`` and ``prompt`` precede it. ``model`` is the name of a profile.
    ``language`` None asks for detection. ``is_optional``: a tentative pass between two steps, which may be skipped.
    """

    audio: NDArray[np.int16]
    prefix: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    prompt: str | None
    hot_words: tuple[str, ...]
    language: str | None
    is_final: bool
    model: str = "demo"
    task: str = "transcribe"
    is_optional: bool = False

    @property
    def frames(self) -> int:
        """Return the length of the window in encoder frames."""
        return len(self.audio) // FRAME
