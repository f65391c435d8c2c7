"""Who the speakers of a mixed channel are: by rule, by enrolment, and when it is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.assemble.logic import AssembleLogic, make
from pipeline.assemble.voices import MOST_VOICES, Roles, says
from pipeline.runtime.sections import AssembleSettings
from schemas.records import CallAnnotation, Identity, Speakers, Word
from tests.fakes import ASSEMBLE
from tests.unit.assemble.records import LANE, MIXED, annotation, drive, segments, turns, words

FIRST = replace(ASSEMBLE, roles=Roles(rule="first"))
END = annotation("ended", start=99.0)
Known = list[tuple[str, str | None, str | None, str | None]]


def said(drafts: list[Any]) -> list[Speakers]:
    return [draft.body["speakers"] for draft in drafts if draft.kind == "speakers"]


def known(speakers: Speakers) -> Known:
    return [(one.speaker, one.role, one.name, one.rule) for one in speakers.speakers]


def lengths(speakers: Speakers) -> dict[str, float]:
    return {one.speaker: one.spoken_seconds for one in speakers.speakers}


def talk(*spans: tuple[str, float, float], text: str = "a") -> list[CallAnnotation]:
    """Return a word for each span (speaker, start, length), and its turn before it."""
    records = []
    for utterance, (speaker, at, seconds) in enumerate(spans):
        records.append(turns((speaker, at, at + seconds), watermark=at + seconds, start=at))
        records.append(words(text, at, utterance=utterance, is_last=True, seconds=seconds))
    return records


def test_without_a_rule_the_speakers_are_listed_by_first_appearance() -> None:
    _, drafts = drive(*talk(("two", 0.0, 1.0), ("one", 1.0, 2.0), ("two", 3.0, 0.5)), END, lane=MIXED)
    assert [known(one) for one in said(drafts)] == [
        [("two", None, None, None)],
        [("two", None, None, None), ("one", None, None, None)],
        [("two", None, None, None), ("one", None, None, None)],
    ]
    assert lengths(said(drafts)[-1]) == {"two": 1.5, "one": 2.0}
    assert [draft.start_sample for draft in drafts if draft.kind == "speakers"] == [8_000, 24_000, 28_000]


def test_at_the_end_nothing_is_said_again() -> None:
    state, drafts = drive(*talk(("one", 0.0, 1.0)), END, lane=MIXED)
    assert len(said(drafts)) == 1
    assert not state.voices.is_untold


def test_nothing_is_said_of_a_separate_channel_or_where_nobody_is_known() -> None:
    nobody = turns(("unknown", 0.0, None), watermark=1e6)
    for records, lane in ((talk(("one", 0.0, 1.0)), LANE), ([nobody, words("a", 0.0, is_last=True)], MIXED)):
        assert said(drive(*records, END, lane=lane)[1]) == []


def test_words_that_nobody_ever_names_are_counted_at_the_end() -> None:
    late = annotation("unheard_of", stage="diarize", start=9.0)
    _, drafts = drive(words("a b", 0.0, is_last=True), late, END, lane=MIXED)
    assert said(drafts) == [Speakers(speakers=(), unknown_words=2, corrected_words=0)]


def test_who_speaks_first_has_the_first_role() -> None:
    _, drafts = drive(*talk(("two", 0.0, 1.0), ("one", 1.0, 1.0), ("three", 2.0, 1.0)), lane=MIXED, config=FIRST)
    assert known(said(drafts)[-1]) == [
        ("two", "agent", None, "first"),
        ("one", "customer", None, "first"),
        ("three", "customer", None, "first"),
    ]
    unknown = [turns(watermark=0.5), words("x", 0.0, is_last=True), *talk(("one", 1.0, 1.0))]
    assert known(said(drive(*unknown, lane=MIXED, config=FIRST)[1])[-1]) == [("one", "agent", None, "first")]


def test_who_is_found_late_to_have_spoken_first_has_the_first_role() -> None:
    late = [words("x", 0.0, is_last=True), turns(("bob", 7.0, 9.0), watermark=0.0, start=9.0)]
    later = [words("y", 7.0, utterance=1, is_last=True), turns(("ann", 0.0, 1.0), watermark=9.0, start=9.1)]
    _, drafts = drive(*late, *later, lane=MIXED, config=FIRST)
    assert segments(drafts) == [("unknown", "x"), ("ann", "x"), ("bob", "y")]
    assert known(said(drafts)[-1]) == [("ann", "agent", None, "first"), ("bob", "customer", None, "first")]
    assert (said(drafts)[-1].unknown_words, said(drafts)[-1].corrected_words) == (1, 1)


def test_who_speaks_longest_is_known_after_a_while_and_may_change() -> None:
    config = replace(ASSEMBLE, roles=Roles(rule="longest", first_role="doctor", other_role="patient"))
    spans = [("one", 0.0, 5.0), ("two", 5.0, 4.0)] * 3
    spans = [(name, index * 5.0, length) for index, (name, _, length) in enumerate(spans)]
    _, drafts = drive(*talk(*spans), lane=MIXED, config=config)
    assert known(said(drafts)[-1])[0] == ("one", None, None, None)  # 27 s of speech
    more = [*spans, ("two", 40.0, 4.0)]
    _, drafts = drive(*talk(*more), lane=MIXED, config=config)
    # 31 s: two has spoken 16 s of them
    assert known(said(drafts)[-1]) == [("one", "patient", None, "longest"), ("two", "doctor", None, "longest")]
    more += [("one", 50.0 + at, 2.0) for at in range(0, 10, 2)]  # one leads by 9 s, and nobody has compared
    state, drafts = drive(*talk(*more), lane=MIXED, config=config)
    assert state.voices.chosen == "two"
    more += [("one", 70.0, 5.0), ("one", 80.0, 5.0), ("one", 90.0, 5.0)]
    assert drive(*talk(*more[:-1]), lane=MIXED, config=config)[0].voices.chosen == "two"
    state, drafts = drive(*talk(*more, ("one", 96.0, 5.0)), lane=MIXED, config=config)
    assert known(said(drafts)[-1]) == [("one", "doctor", None, "longest"), ("two", "patient", None, "longest")]


def test_a_short_lead_changes_nothing_before_the_end() -> None:
    config = replace(ASSEMBLE, roles=Roles(rule="longest"))
    spans = [("one", 0.0, 16.0), ("two", 16.0, 15.0), ("two", 31.0, 5.0), ("one", 36.0, 1.0), ("one", 37.0, 1.0)]
    spans += [("two", 40.0 + at, 1.0) for at in range(2)] + [("one", 50.0, 12.0), ("two", 62.0, 14.0)]
    state, _ = drive(*talk(*spans), lane=MIXED, config=config)
    assert {one.speaker: one.spoken_samples // 8_000 for one in state.voices.voices} == {"one": 30, "two": 36}
    state, _ = drive(*talk(*spans[:-1], ("two", 62.0, 11.0)), lane=MIXED, config=config)
    assert state.voices.chosen == "one"  # two leads by 3 s
    state, drafts = drive(*talk(*spans[:-1], ("two", 62.0, 11.0)), END, lane=MIXED, config=config)
    assert known(said(drafts)[-1])[1] == ("two", "agent", None, "longest")


def test_a_short_call_is_judged_at_its_end() -> None:
    config = replace(ASSEMBLE, roles=Roles(rule="longest"))
    _, drafts = drive(*talk(("one", 0.0, 1.0), ("two", 1.0, 2.0)), END, lane=MIXED, config=config)
    assert known(said(drafts)[-2])[1] == ("two", None, None, None)
    assert known(said(drafts)[-1])[1] == ("two", "agent", None, "longest")


def test_who_says_a_phrase_has_the_first_role() -> None:
    config = replace(ASSEMBLE, roles=Roles(rule="phrase", phrases=("thank you for calling", "my name is")))
    records = [*talk(("one", 0.0, 1.0)), turns(("two", 1.0, 9.0), watermark=9.0)]
    _, drafts = drive(
        *records, words("Thank YOU, for-calling!", 1.0, utterance=9, is_last=True), lane=MIXED, config=config
    )
    assert known(said(drafts)[0]) == [("one", None, None, None)]
    assert known(said(drafts)[-1]) == [("one", "customer", None, "phrase"), ("two", "agent", None, "phrase")]


@pytest.mark.parametrize(
    ("text", "phrase", "is_said"),
    [
        ("Well, thank you for calling us", "Thank you for calling.", True),
        ("thankyou for calling", "thank you for calling", True),
        ("thank you for callings", "thank you for calling", False),
        ("this is it", "hi", False),
        ("the call-centre", "call centre", True),
        ("You've won", "youve won", True),
        ("STRASSE 5", "straße", True),
        ("お電話ありがとうございます", "ありがとう", True),
        ("anything", "?!", False),
    ],
)
def test_case_punctuation_and_spacing_of_phrases_do_not_matter(text: str, phrase: str, is_said: bool) -> None:
    made = [Word(text=part, start_sample=0, end_sample=1, probability=1.0) for part in text.split()]
    assert says(made, (phrase,)) is is_said


ANN = Identity(speaker="one", similarity=0.7, name="Ann", role="agent")


def test_who_is_recognised_has_a_name_and_her_own_role() -> None:
    named = turns(watermark=9.0, start=9.0, identities=(ANN,))
    _, drafts = drive(*talk(("two", 0.0, 1.0), ("one", 1.0, 1.0)), named, lane=MIXED, config=FIRST)
    assert known(said(drafts)[-2]) == [("two", "agent", None, "first"), ("one", "customer", None, "first")]
    # Enrolment knows who the agent is: the rule does not make another one.
    assert known(said(drafts)[-1]) == [("two", "customer", None, "first"), ("one", "agent", "Ann", "enrolment")]


def test_who_is_recognised_before_speaking_is_not_listed_before() -> None:
    named = turns(watermark=0.0, identities=(ANN, replace(ANN, speaker="two", name="Bob", role=None)))
    _, drafts = drive(named, *talk(("one", 0.0, 1.0)), lane=MIXED)
    assert [known(one) for one in said(drafts)] == [[("one", "agent", "Ann", "enrolment")]]


def test_what_was_recognised_may_not_hold_any_more() -> None:
    named = turns(watermark=9.0, identities=(ANN,))
    gone = turns(watermark=9.0, identities=(replace(ANN, name=None),))
    _, drafts = drive(*talk(("one", 0.0, 1.0)), named, named, gone, lane=MIXED)
    assert [known(one)[0][1:3] for one in said(drafts)] == [(None, None), ("agent", "Ann"), (None, None)]


def test_so_many_speakers_are_kept_and_no_more() -> None:
    spans = [(f"s{at}", at * 1.0, 1.0) for at in range(MOST_VOICES + 5)]
    state, drafts = drive(*talk(*spans), lane=MIXED, config=FIRST)
    assert len(said(drafts)[-1].speakers) == MOST_VOICES
    assert segments(drafts)[-1] == ("s24", "a")
    assert len(AssembleLogic(FIRST).snapshot(state).data) < 1_000  # type: ignore[union-attr]


def test_speakers_survive_a_restart() -> None:
    logic = AssembleLogic(FIRST)
    state, _ = drive(*talk(("two", 0.0, 1.0)), turns(watermark=2.0, identities=(ANN,)), lane=MIXED, config=FIRST)
    snapshot = logic.snapshot(state)
    assert snapshot is not None
    restored = logic.restore(MIXED, snapshot.data)
    for record in [*talk(("x", 9.0, 1.0), ("one", 2.0, 1.0))[2:], END]:
        step, expected = logic.plan(restored, record), logic.plan(state, record)
        assert step.outputs == expected.outputs
        restored, state = step.state, expected.state
    assert restored.voices == state.voices


def test_settings_say_how_roles_are_given() -> None:
    settings = AssembleSettings(role_rule="phrase", role_phrases="thank you, my name is", other_role="guest")
    roles = make(settings)._config.roles
    assert roles == Roles(rule="phrase", other_role="guest", phrases=("thank you", "my name is"))
    with pytest.raises(ValueError, match="role_phrases"):
        AssembleSettings(role_rule="phrase")
    with pytest.raises(ValueError, match="first_role"):
        AssembleSettings(first_role="the agent")


def test_however_many_have_long_names_the_state_stays_small() -> None:
    named = tuple(Identity(speaker=f"speaker_{at}", similarity=1.0, name="ß" * 500, role="r" * 500) for at in range(30))
    spans = [(f"speaker_{at}", at * 1.0, 1.0) for at in range(30)]
    state, drafts = drive(turns(watermark=0.0, identities=named), *talk(*spans), lane=MIXED)
    snapshot = AssembleLogic(ASSEMBLE).snapshot(state)
    assert snapshot is not None
    assert len(snapshot.data) <= 2_600
    assert said(drafts)[-1].speakers[0].name == "ß" * 32
