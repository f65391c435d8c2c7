"""What must hold at the edges of utterances, whatever the policy: a scripted engine, both policies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.errors import PoisonError
from pipeline.core.passing import CRASHED
from schemas.records import Gap, Rejected, Settings
from tests.fakes import asr_logic
from tests.unit.asr.test_logic import LANE, STEP, Saying, control, follow, piece, word
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


def heard(*records: Any) -> Any:
    """Return the state of a lane that has committed two words of an open utterance, up to sample 9_600."""
    engine = Listening(word("one", 2, 9), word("two", 10, 17), word("three", 40, 47))
    return follow(asr_logic(), LANE, engine, piece(0, 0, SECOND), *records)[0]


@pytest.mark.parametrize("is_last", [False, True])
def test_what_the_decoder_does_not_survive_is_refused_and_committed_words_stay(is_last: bool) -> None:
    state = heard()
    assert [committed.text for committed in state.committed] == ["one", "two"]
    step = asr_logic().abandon(state, piece(1, SECOND, SECOND, is_last=is_last))
    (body,) = bodies(list(step.outputs))
    assert (body.words, body.is_last, body.watermark_sample) == ((), True, 2 * SECOND)
    assert body.rejected == (Rejected(start_sample=state.committed_end, end_sample=2 * SECOND, reason=CRASHED),)
    assert step.work is None
    assert (step.state.is_open, len(step.state.audio), step.state.prompt_tokens) == (False, 0, ())
    assert asr_logic().snapshot(step.state) is not None


def test_an_utterance_goes_on_behind_what_was_refused() -> None:
    asr, state = asr_logic(), heard()
    state = asr.abandon(state, piece(1, SECOND, SECOND)).state
    state = asr.restore(LANE, asr.snapshot(state).data)  # type: ignore[union-attr]
    step = asr.plan(state, piece(2, 2 * SECOND, SECOND))
    assert (step.state.utterance, step.state.utterance_start, step.state.window_start) == (0, 2 * SECOND, 2 * SECOND)
    assert step.work is not None
    assert (len(step.work.audio), step.work.prefix, step.work.prompt_tokens) == (STEP, (), ())


def test_a_lone_piece_that_kills_is_refused() -> None:
    step = asr_logic().abandon(asr_logic().open(LANE), piece(0, 800, 1_600, utterance=4))
    (body,) = bodies(list(step.outputs))
    assert (body.utterance, body.start_sample, body.watermark_sample) == (4, 800, 2_400)
    assert body.rejected == (Rejected(start_sample=800, end_sample=2_400, reason=CRASHED),)


def test_what_a_gap_would_have_had_decoded_is_refused_before_it() -> None:
    gap = replace(piece(1, SECOND, 0), kind="gap", speech=None, gap=Gap(end_sample=20_000, reason="missing_records"))
    step = asr_logic().abandon(heard(), gap)
    assert [draft.kind for draft in step.outputs] == ["words", "gap"]
    assert [one.end_sample for one in bodies(list(step.outputs))[0].rejected] == [SECOND]
    assert step.state.heard_to == 20_000


def test_the_end_of_a_call_refuses_what_it_would_have_had_decoded() -> None:
    step = asr_logic().abandon(heard(), control("ended"))
    (body,) = bodies(list(step.outputs))
    assert (body.is_last, [one.reason for one in body.rejected]) == (True, [CRASHED])
    assert asr_logic().abandon(step.state, control("ended")).outputs == ()


def test_a_condemned_piece_that_does_not_continue_is_poison() -> None:
    with pytest.raises(PoisonError):
        asr_logic().abandon(heard(), piece(1, SECOND + 100, 100))
