"""What must hold at the edges of utterances, whatever the policy: a scripted engine, both policies."""

from __future__ import annotations

import pytest

from schemas.records import Settings
from tests.fakes import asr_logic
from tests.unit.asr.test_logic import Saying, control, follow, piece, word
from tests.unit.asr.test_logic_passes import SECOND, Listening, bodies, lane

POLICIES = ("alignatt", "local_agreement")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_switch_of_language_inside_an_utterance_changes_no_committed_word(policy: str) -> None:
    engine = Listening(word("one", 2, 9), word("two", 10, 17), word("three", 60, 67))
    switch = control("settings", settings=Settings(language="de", prompt=None, hot_words=None))
    records = [
        piece(0, 0, SECOND),
        switch,
        piece(1, SECOND, SECOND, is_last=True),
        piece(2, 3 * SECOND, 2 * SECOND, utterance=1, is_last=True),
    ]
    state, drafts = follow(asr_logic(), lane(policy=policy), engine, *records)
    languages = [work.language for work in engine.asked]
    assert languages == ["en"] * 2 + ["de"] * (len(languages) - 2)
    assert len(languages) == 4
    for utterance in (0, 1):
        said = [w.text for body in bodies(drafts) if body.utterance == utterance for w in body.words]
        assert said == ["one", "two", "three"]
    assert (state.language, bodies(drafts)[-1].language) == ("de", "de")


@pytest.mark.parametrize("policy", POLICIES)
def test_an_utterance_in_which_nothing_is_heard_ends_without_a_word(policy: str) -> None:
    engine = Saying()
    records = [piece(number, number * SECOND, SECOND, is_last=number == 5) for number in range(6)]
    state, drafts = follow(asr_logic(), lane(policy=policy), engine, *records)
    assert len(engine.asked) > 6
    (body,) = bodies(drafts)
    assert (body.words, body.rejected, body.refusals, body.is_last) == ((), (), {}, True)
    assert [draft.kind for draft in drafts] == ["words"]
    assert not state.is_open


@pytest.mark.parametrize("policy", POLICIES)
def test_an_utterance_is_decoded_with_the_text_of_the_one_before(policy: str) -> None:
    words = word("please", 2, 9), word("hold", 10, 17)
    engine = Listening(*words)
    records = [piece(0, 0, SECOND, is_last=True), piece(1, 2 * SECOND, SECOND, utterance=1, is_last=True)]
    follow(asr_logic(), lane(policy=policy), engine, *records)
    spoken = tuple(token for one in words for token in one.tokens)
    first, *others = [work.prompt_tokens for work in engine.asked]
    assert first == ()
    assert others[-1] == spoken
