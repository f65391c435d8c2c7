from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.asr.guards import GUARDS, Evidence, heard, refused_by
from pipeline.asr.hypothesis import Hypothesis, HypothesisWord
from tests.unit.asr.test_sounds import babble, silence, sine, white_noise


def words(text: str, score: float = -0.1, *, first: int = 10, length: int = 15) -> list[HypothesisWord]:
    return [
        HypothesisWord(
            text=word,
            tokens=(i,),
            frames=(first + i * length,),
            end_frame=first + (i + 1) * length,
            log_probabilities=(score,),
        )
        for i, word in enumerate(text.split())
    ]


def evidence(
    audio: NDArray[np.int16] | None = None, *, seconds: float = 2.0, before: str = "", prompt: str = ""
) -> Evidence:
    return Evidence(
        audio=babble(seconds) if audio is None else audio,
        begin=0,
        before=before.split(),
        prompt=prompt,
        min_mean_log_probability=-3.0,
        sure_log_probability=-1.0,
    )


def refused(made: list[HypothesisWord], given: Evidence, *, no_speech: float = 0.0) -> str | None:
    return refused_by(Hypothesis(words=tuple(made), end_frame=0, no_speech_probability=no_speech), made, given)


@pytest.mark.parametrize(
    ("text", "score", "seconds", "expected"),
    [
        ("", -9.0, 1.0, None),
        ("thank you for calling", -0.2, 2.0, None),
        ("thank you for calling", -3.5, 2.0, "log_probability"),
        ("you " * 30, -0.2, 20.0, "repetition"),
        ("no no no", -0.2, 1.0, None),  # people do say so
        ("nine nine nine nine nine nine", -0.2, 4.0, None),  # and numbers
        ("I see I see I see", -0.2, 3.0, None),
        ("thank you very much " * 3, -0.2, 9.0, "repetition"),
        ("one two three four five six seven eight nine ten", -0.2, 1.0, "word_rate"),
        ("a b c", -0.2, 0.1, None),  # too few to tell
    ],
)
def test_what_is_refused(text: str, score: float, seconds: float, expected: str | None) -> None:
    assert refused(words(text, score), evidence(seconds=seconds)) == expected


def test_a_loop_is_seen_across_the_words_already_committed() -> None:
    assert refused(words("you you"), evidence(before="you you you you you you")) == "repetition"
    assert refused(words("you too"), evidence(before="you you you you you you")) is None


def test_the_mean_counts_not_the_worst_token() -> None:
    mixed = [*words("a b c d", -0.1), *words("e", -9.0)]
    assert refused(mixed, evidence(seconds=3.0)) is None


@pytest.mark.parametrize(("score", "expected"), [(-0.5, None), (-1.5, "no_speech")])
def test_no_speech_needs_doubt_in_the_text_as_well(score: float, expected: str | None) -> None:
    assert refused(words("thank you", score), evidence(), no_speech=0.9) == expected


@pytest.mark.parametrize(
    ("text", "no_speech", "length", "expected"),
    [
        ("the Acme router model nine", 0.5, 15, "prompt_echo"),
        ("the Acme router model nine", 0.0, 1, "prompt_echo"),  # attention that does not move
        ("the Acme router model nine", 0.0, 15, None),  # somebody may say what the prompt says
        ("my Acme router model nine", 0.5, 15, None),
        ("Acme router", 0.5, 15, None),  # two words are no echo
    ],
)
def test_an_echo_of_the_prompt(text: str, no_speech: float, length: int, expected: str | None) -> None:
    given = evidence(prompt="Names: Smith, Jones. The Acme Router, model nine.")
    assert refused(words(text, length=length), given, no_speech=no_speech) == expected


@pytest.mark.parametrize(
    ("audio", "expected"), [(sine(440, 480), "tone"), (white_noise(), "noise"), (babble(2.0), None), (silence(), None)]
)
def test_text_over_what_is_no_speech(audio: NDArray[np.int16], expected: str | None) -> None:
    assert refused(words("thank you"), evidence(audio)) == expected


def test_words_behind_the_last_sound_are_not_heard() -> None:
    audio = np.concatenate([babble(1.0), silence(2.0)])
    made = words("thank you. Thank you for watching", first=10, length=20)
    assert heard(made, evidence(audio)) == 3  # the third begins while sound is still within 100 ms
    assert heard(made, evidence(babble(3.0))) == len(made)
    assert heard(made, evidence(silence(3.0))) == 0
    assert heard([], evidence(audio)) == 0


def test_a_guard_can_be_switched_off() -> None:
    given = evidence(sine(440, 480))
    assert refused(words("thank you"), replace(given, disabled=("tone",))) is None
    assert heard(words("thank you"), replace(evidence(silence(2.0)), disabled=("silence",))) == 2


def test_every_reason_has_a_name_in_the_list() -> None:
    assert len(set(GUARDS)) == len(GUARDS)
    assert {"log_probability", "no_speech", "repetition", "word_rate", "prompt_echo", "tone", "noise", "silence"} < set(
        GUARDS
    )
