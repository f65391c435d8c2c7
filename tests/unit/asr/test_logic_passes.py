"""What a call may ask for, tentative passes, languages, and windows at their limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.asr import logic
from pipeline.asr.hypothesis import AsrWork, Hypothesis, HypothesisWord
from pipeline.asr.profiles import Catalogue
from pipeline.core.contract import Lane
from schemas.records import Started
from tests.fakes import ASR, PROFILE, asr_logic
from tests.unit.asr.test_logic import CHANNEL, LANE, Saying, control, drive, follow, piece, word

SECOND = 16_000


def lane(language: str | None = None, **started: Any) -> Lane:
    channel = replace(CHANNEL, language=language)
    return Lane(channel=channel, started=Started(channels=(channel,), **started))


def bodies(drafts: list[Any]) -> list[Any]:
    return [draft.body["words"] for draft in drafts if draft.kind == "words"]


class Listening:
    """Answers every pass with the given words, and with a language when it is asked for one."""

    def __init__(self, *words: HypothesisWord, language: str = "de", probability: float = 0.9, **extra: Any) -> None:
        self.words, self.language, self.probability, self.extra = words, language, probability, extra
        self.asked: list[AsrWork] = []

    def __call__(self, work: AsrWork) -> Hypothesis:
        self.asked.append(work)
        known = [w for w in self.words if w.tokens not in {work.prefix[i : i + 1] for i in range(len(work.prefix))}]
        detected = (
            {"language": self.language, "language_probability": self.probability} if work.language is None else {}
        )
        return Hypothesis(
            words=tuple(known), end_frame=work.frames, no_speech_probability=0.0, **detected, **self.extra
        )


# -- what a call asks for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lane(model="other"), "unknown_model"),
        (lane(policy="other"), "unknown_policy"),
        (lane(task="sing"), "unknown_task"),
        (lane(language="xx"), "unknown_language"),
    ],
)
def test_what_nobody_offers_is_accounted_for_as_rejected_speech(given: Lane, reason: str) -> None:
    engine = Saying()
    _, drafts = follow(asr_logic(), given, engine, piece(0, 0, SECOND), piece(1, SECOND, SECOND, is_last=True))
    assert not engine.asked
    (body,) = bodies(drafts)
    assert [(r.start_sample, r.end_sample, r.reason) for r in body.rejected] == [(0, 2 * SECOND, reason)]


def test_a_language_that_the_model_was_not_taught_is_unknown() -> None:
    asr = asr_logic(ASR, replace(PROFILE, languages=("en",)))
    _, drafts = follow(asr, lane(language="de"), Saying(), piece(0, 0, SECOND, is_last=True))
    assert bodies(drafts)[0].rejected[0].reason == "unknown_language"


def test_model_policy_and_task_of_the_call_are_used_and_written() -> None:
    second = replace(PROFILE, name="second", revision="second@2")
    asr = logic.AsrLogic(ASR, Catalogue(default="scripted", profiles={"scripted": PROFILE, "second": second}))
    engine = Saying([word("a", 1, 8)])
    given = lane(model="second", policy="local_agreement", task="translate")
    _, drafts = follow(asr, given, engine, piece(0, 0, 6_400, is_last=True))
    assert [(work.model, work.task) for work in engine.asked] == [("second", "translate")]
    body = bodies(drafts)[-1]
    assert (body.model, body.policy, body.task) == ("second@2", "local_agreement", "translate")


# -- languages ---------------------------------------------------------------------------------------------------------


def test_a_language_is_detected_on_two_seconds_of_speech_and_locked() -> None:
    engine = Listening(word("hallo", 1, 8), word("du", 8, 16))
    records = [piece(i, i * 8_000, 8_000, is_last=i == 7) for i in range(8)]
    state, drafts = follow(asr_logic(), lane(language="auto"), engine, *records)
    assert [work.language for work in engine.asked] == [None, *["de"] * (len(engine.asked) - 1)]
    assert len(engine.asked[0].audio) == 2.5 * SECOND
    assert (state.language, state.language_probability) == ("de", 0.9)
    assert {(body.language, body.language_probability) for body in bodies(drafts)} == {("de", 0.9)}


def test_a_short_utterance_is_recognised_in_its_own_language_and_locks_none() -> None:
    engine = Listening(word("ja", 1, 8))
    records = [
        piece(0, 0, SECOND, is_last=True),
        piece(1, 2 * SECOND, SECOND, utterance=1, is_last=True),
    ]
    state, drafts = follow(asr_logic(), lane(language="auto"), engine, *records)
    assert [work.language for work in engine.asked] == [None, None]
    assert state.language == "auto"
    assert [(body.language, body.language_probability) for body in bodies(drafts)] == [("de", 0.9)] * 2


def test_refused_text_locks_no_language() -> None:
    engine = Listening(word("brumm", 1, 8, score=-9.0))
    records = [piece(i, i * 8_000, 8_000, is_last=i == 7) for i in range(8)]
    state, drafts = follow(asr_logic(), lane(language="auto"), engine, *records)
    assert {work.language for work in engine.asked} == {None}
    assert (state.language, bodies(drafts)[-1].language) == ("auto", None)


def test_the_locked_language_survives_a_restart() -> None:
    asr = asr_logic()
    state = replace(asr.open(lane(language="auto")), language="de", language_probability=0.75)
    snapshot = asr.snapshot(state)
    assert snapshot is not None
    restored = asr.restore(lane(language="auto"), snapshot.data)
    assert (restored.language, restored.language_probability) == ("de", 0.75)


# -- tentative passes --------------------------------------------------------------------------------------------------

TENTATIVE = replace(ASR, tentative=3_200)


def pieces(count: int, samples: int = 3_200) -> list[Any]:
    return [piece(i, i * samples, samples, is_last=i == count - 1) for i in range(count)]


@pytest.mark.parametrize("skipped", [False, True])
def test_tentative_passes_change_the_tail_alone(skipped: bool) -> None:
    said = [word(f"w{i}", 2 + 8 * i, 9 + 8 * i) for i in range(5)]

    class Hearing(Listening):
        def __call__(self, work: AsrWork) -> Any:
            heard = super().__call__(work)
            if work.is_optional and skipped:
                return None
            return replace(heard, words=tuple(w for w in heard.words if w.frames[0] < work.frames - 2))

    with_them, without = Hearing(*said), Hearing(*said)
    _, tentative = follow(asr_logic(TENTATIVE), LANE, with_them, *pieces(10))
    _, plain = follow(asr_logic(ASR), LANE, without, *pieces(10))
    assert any(work.is_optional for work in with_them.asked)
    assert [len(w.audio) for w in with_them.asked if not w.is_optional] == [len(w.audio) for w in without.asked]
    assert [draft for draft in tentative if draft.kind == "words"] == [
        draft for draft in plain if draft.kind == "words"
    ]
    tails = [sum(draft.kind == "tail" for draft in drafts) for drafts in (tentative, plain)]
    assert tails[0] == tails[1] if skipped else tails[0] > tails[1]


def test_a_tentative_pass_is_not_made_when_its_step_is_due() -> None:
    engine = Listening()
    follow(asr_logic(TENTATIVE), LANE, engine, piece(0, 0, 5 * 8_000, is_last=True))
    assert not [work for work in engine.asked if work.is_optional]


# -- windows at their limits -------------------------------------------------------------------------------------------


def test_a_window_that_cannot_be_cut_is_committed_whole_at_its_limit() -> None:
    """Nothing was committed, no sentence ended: the decoder's limit comes first."""
    config = replace(ASR, longest=3 * SECOND, window=8 * SECOND)
    late = [word("late", 140, 149)]  # always too near to the end of the audio to be safe
    engine = Saying(*[[]] * 5, late)
    state, drafts = drive(engine, *[piece(i, i * 8_000, 8_000) for i in range(7)], config=config)
    assert max(len(work.audio) for work in engine.asked) == 3 * SECOND
    assert [w.text for body in bodies(drafts) for w in body.words] == ["late"]
    assert (state.window_start, state.is_open) == (3 * SECOND, True)
    assert not bodies(drafts)[-1].is_last


def test_speech_that_is_refused_at_the_limit_is_accounted_for() -> None:
    config = replace(ASR, longest=3 * SECOND, window=8 * SECOND)
    engine = Saying(*[[]] * 5, [word("nonsense", 1, 20, score=-9.0)])
    _, drafts = drive(engine, *[piece(i, i * 8_000, 8_000) for i in range(7)], config=config)
    (body,) = bodies(drafts)
    assert [(r.start_sample, r.end_sample, r.reason) for r in body.rejected] == [(0, 3 * SECOND, "log_probability")]
    assert body.refusals == {"log_probability": 1}


def test_text_without_an_end_is_committed_only_as_far_as_the_policy_trusts_it() -> None:
    looping = [word("fine", 2, 6), word("words", 6, 9), *(word("you", 18, 19) for _ in range(4))]

    def capped(work: AsrWork) -> Hypothesis:
        return Hypothesis(words=tuple(looping), end_frame=19, no_speech_probability=0.0, is_capped=True)

    _, drafts = drive(capped, piece(0, 0, 6_400, is_last=True))  # type: ignore[arg-type]
    (body,) = bodies(drafts)
    assert [w.text for w in body.words] == ["fine", "words"]
    assert body.refusals == {"token_limit": 1}


def test_a_prefix_too_long_for_the_decoder_is_cut_away() -> None:
    answers = [Hypothesis(words=(word("a", 2, 8), word("b", 8, 12)), end_frame=14, no_speech_probability=0.0)]
    full = Hypothesis(words=(), end_frame=50, no_speech_probability=0.0, is_capped=True)
    asked: list[AsrWork] = []

    def engine(work: AsrWork) -> Hypothesis:
        asked.append(work)
        return answers.pop(0) if answers else full

    drive(engine, *[piece(i, i * 8_000, 8_000) for i in range(4)])  # type: ignore[arg-type]
    assert [len(work.prefix) for work in asked] == [0, 2, 0, 0]


def test_words_behind_the_last_sound_are_refused_and_counted() -> None:
    config = replace(ASR, disabled_guards=())
    engine = Saying([word("Thank", 2, 8), word("you", 8, 14)])
    _, drafts = drive(engine, piece(0, 0, 6_400, is_last=True), config=config)
    (body,) = bodies(drafts)
    assert (body.words, body.refusals) == ((), {"silence": 1})
    assert [r.reason for r in body.rejected] == ["silence"]


def test_refusals_of_an_open_utterance_are_counted_with_the_next_words() -> None:
    bad, good = [word("nonsense", 1, 8, score=-9.0), word("more", 8, 12, score=-9.0)], [word("good", 1, 8)]
    _, drafts = drive(Saying(bad, bad, good), piece(0, 0, SECOND), piece(1, SECOND, 4_000, is_last=True))
    (body,) = bodies(drafts)
    assert ([w.text for w in body.words], body.refusals, body.rejected) == (["good"], {"unsure": 2}, ())


def test_settings_may_ask_for_detection_again() -> None:
    from schemas.records import Settings

    asr = asr_logic()
    state = replace(asr.open(LANE), language="de", language_probability=0.9)
    change = Settings(language="auto", prompt=None, hot_words=None)
    state = asr.plan(state, control("settings", settings=change)).state
    assert (state.language, state.language_probability) == ("auto", None)
