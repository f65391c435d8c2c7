from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.asr.hypothesis import Hypothesis, HypothesisWord
from pipeline.asr.policies import policy_of
from pipeline.asr.policies.base import Memory
from pipeline.asr.policies.local_agreement import LocalAgreement
from pipeline.asr.profiles import ModelProfile


def hypothesis(text: str) -> Hypothesis:
    words = tuple(
        HypothesisWord(text=word, tokens=tuple(word.encode()), frames=(i,), end_frame=i + 1, log_probabilities=(-0.1,))
        for i, word in enumerate(text.split())
    )
    return Hypothesis(words=words, end_frame=len(words), no_speech_probability=0.0)


def passes(agreement: int, *texts: str) -> list[str]:
    """Return what each pass commits; a pass hears the whole text, and the committed words are forced."""
    policy, memory, committed, made = LocalAgreement(agreement=agreement), Memory(), 0, []
    for text in texts:
        words = text.split()
        count, memory = policy.commit(
            hypothesis(" ".join(words[committed:])), frames=100, is_final=False, memory=memory
        )
        made.append(" ".join(words[committed : committed + count]))
        committed += count
    return made


@pytest.mark.parametrize(
    ("agreement", "texts", "expected"),
    [
        (2, ["a b c", "a b d", "a b d e"], ["", "a b", "d"]),
        (2, ["a", "a", "a b"], ["", "a", ""]),
        (2, ["", "a", "a"], ["", "", "a"]),
        (2, ["x", "a b", "a c", "a c"], ["", "", "a", "c"]),
        (3, ["a b", "a b", "a c", "a c d", "a c d"], ["", "", "a", "", "c"]),
        (2, ["Thank you", "Thank you.", "Thank you."], ["", "Thank", "you."]),  # punctuation is part of the word
    ],
)
def test_words_are_committed_when_passes_agree(agreement: int, texts: Sequence[str], expected: list[str]) -> None:
    assert passes(agreement, *texts) == expected


def test_the_end_of_the_utterance_commits_everything_and_forgets() -> None:
    memory = Memory(((tuple(b"x"),),))
    policy = LocalAgreement(agreement=2)
    assert policy.commit(hypothesis("a b"), frames=9, is_final=True, memory=memory) == (2, Memory())


def test_half_a_character_is_held_back() -> None:
    assert passes(2, "a \ufffd b", "a \ufffd b") == ["", "a"]


def test_the_memory_does_not_grow() -> None:
    policy, memory = LocalAgreement(agreement=3), Memory()
    for text in ["a b", "c d", "e f", "g h", "i j"]:
        _, memory = policy.commit(hypothesis(text), frames=9, is_final=False, memory=memory)
    assert len(memory.hypotheses) == 2


def test_a_model_brings_its_policy_and_a_call_may_choose_another() -> None:
    profile = ModelProfile(name="m", revision="m@1", policy="local_agreement")
    assert [getattr(policy_of(profile, name), "name", None) for name in (None, "alignatt", "other")] == [
        "local_agreement",
        "alignatt",
        None,
    ]
