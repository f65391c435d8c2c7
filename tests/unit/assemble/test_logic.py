from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.assemble import logic
from pipeline.runtime.sections import AssembleSettings
from schemas.codec import encode_plain
from schemas.records import AssembleLane, Gap, Hold, Rejected
from tests.fakes import ASSEMBLE, CALL, Call, outputs_of, run, run_chain, said, stages
from tests.unit.assemble.records import AGENT, LANE, MIXED, annotation, drive, segments, turns, words


def test_an_utterance_is_a_segment() -> None:
    state, drafts = drive(AGENT, words("one two", 1.0), words("three.", 2.0, is_last=True))
    assert segments(drafts) == [("agent", "one two three.")]
    segment = drafts[0].body["segment"]
    assert segment.segment_id == f"{CALL}/0/8000"
    assert (drafts[0].start_sample, segment.end_sample, segment.role) == (8_000, 20_000, "agent")
    assert (segment.language, segment.model, segment.policy, segment.revision) == ("en", "m@1", "alignatt", 0)
    assert [word.text for word in segment.words] == ["one", "two", "three."]
    assert state.pending == ()


def test_nothing_is_closed_before_the_utterance_ends() -> None:
    state, drafts = drive(AGENT, words("one two", 1.0))
    assert drafts == []
    assert len(state.pending) == 2
    assert logic.AssembleLogic(ASSEMBLE).snapshot(state) is None


def test_a_sentence_end_closes_once_the_segment_is_long() -> None:
    _, drafts = drive(AGENT, words("a b. c d e f g. h", 0.0), words("", 4.0, is_last=True))
    assert segments(drafts) == [("agent", "a b. c d e f g."), ("agent", "h")]


def test_no_segment_is_longer_than_the_longest() -> None:
    _, drafts = drive(AGENT, words("x " * 20, 0.0), words("", 10.0, is_last=True))
    assert [len(text.split()) for _, text in segments(drafts)] == [12, 8]


def test_two_utterances_are_two_segments() -> None:
    _, drafts = drive(AGENT, words("a", 0.0, is_last=True), words("b", 2.0, utterance=1, is_last=True))
    assert segments(drafts) == [("agent", "a"), ("agent", "b")]


def test_a_change_of_speaker_closes() -> None:
    spoken = turns(("ann", 0.0, 1.0), ("bob", 1.0, 9.0), watermark=9.0)
    _, drafts = drive(spoken, words("a b c d", 0.0, is_last=True), lane=MIXED)
    assert segments(drafts) == [("ann", "a b"), ("bob", "c d")]


def test_a_word_waits_for_its_speaker() -> None:
    spoken = turns(("ann", 0.0, 9.0), watermark=0.7)
    state, drafts = drive(spoken, words("a b", 0.0, is_last=True), lane=MIXED)
    assert drafts == []
    assert len(state.pending) == 2
    _, drafts = drive(
        spoken, words("a b", 0.0, is_last=True), annotation("watermark", stage="diarize", start=1.0), lane=MIXED
    )
    assert segments(drafts) == [("ann", "a b")]


def test_the_wait_is_bounded_by_how_far_diarize_has_come() -> None:
    spoken = words("a", 0.0, is_last=True)
    _, drafts = drive(spoken, annotation("watermark", start=60.0), lane=MIXED)
    assert segments(drafts) == []
    _, drafts = drive(spoken, annotation("unheard_of", stage="diarize", start=5.4), lane=MIXED)
    assert segments(drafts) == []
    _, drafts = drive(spoken, annotation("unheard_of", stage="diarize", start=5.5), lane=MIXED)
    assert segments(drafts) == [("unknown", "a")]


def test_the_speaker_is_whose_turn_overlaps_the_word_most() -> None:
    spoken = turns(("ann", 0.0, 0.4), ("bob", 0.4, 1.0), watermark=9.0)
    _, drafts = drive(spoken, words("a", 0.0, is_last=True, seconds=1.0), lane=MIXED)
    assert segments(drafts) == [("bob", "a")]
    _, drafts = drive(turns(("ann", 5.0, 6.0), watermark=9.0), words("a", 0.0, is_last=True), lane=MIXED)
    assert segments(drafts) == [("unknown", "a")]


def test_a_word_behind_a_turn_is_of_that_turn() -> None:
    _, drafts = drive(turns(("ann", 0.0, 1.0), watermark=9.0), words("a", 1.0, is_last=True), lane=MIXED)
    assert segments(drafts) == [("ann", "a")], "recognisers place the last word late"
    both = turns(("ann", 0.0, 1.0), ("bob", 1.1, 2.0), watermark=9.0)
    _, drafts = drive(both, words("a", 1.0, is_last=True), lane=MIXED)
    assert segments(drafts) == [("bob", "a")], "but what it overlaps is nearer"
    _, drafts = drive(turns(("ann", 0.0, 0.4), watermark=9.0), words("a", 1.0, is_last=True), lane=MIXED)
    assert segments(drafts) == [("unknown", "a")]


def test_on_a_separate_channel_no_word_waits_for_diarize() -> None:
    first = words("a b", 0.0, is_last=True)
    _, drafts = drive(first)
    assert segments(drafts) == [("agent", "a b")]
    strange = turns(("ann", 0.0, None), watermark=9.0)
    for records in ((AGENT, first), (strange, first), (first, AGENT), (first, strange)):
        assert drive(*records)[1] == drafts


def test_a_state_that_had_heard_nothing_of_its_speaker_knows_the_role() -> None:
    """Builds before this one waited for diarize on every channel."""
    assemble = logic.AssembleLogic(ASSEMBLE)
    older = AssembleLane(turns=(), words_watermark=0, turns_watermark=0, utterance=-1, accounted=0)
    state = assemble.restore(LANE, encode_plain(older))
    assert segments(assemble.plan(state, words("a b", 0.0, is_last=True)).outputs) == [("agent", "a b")]


def test_words_stop_waiting_when_diarize_is_too_far_behind() -> None:
    spoken = [words("a", 8.0 * i, utterance=i, is_last=True) for i in range(200)]
    late = turns(("ann", 0.0, None), watermark=2000.0)
    state, drafts = drive(*spoken[:75], lane=MIXED)  # to 592.5 s
    assert (len(state.pending), drafts) == (75, [])
    assert segments(drive(*spoken[:75], late, lane=MIXED)[1]) == [("ann", "a")] * 75
    state, drafts = drive(*spoken[:76], lane=MIXED)
    assert (state.pending, segments(drafts)) == ((), [("unknown", "a")] * 76)
    assert logic.AssembleLogic(ASSEMBLE).snapshot(state) is not None
    back = annotation("watermark", stage="diarize", start=1000.0)
    state, drafts = drive(*spoken[:150], back, *spoken[150:], late, lane=MIXED)
    corrected = [("ann", "a")] * 25  # what diarize had passed without a word is settled
    assert segments(drafts) == [("unknown", "a")] * 150 + corrected + [("ann", "a")] * 50
    assert state.owed == ()


def test_a_turn_is_extended() -> None:
    _, drafts = drive(
        turns(("ann", 0.0, 0.1), watermark=0.1),
        turns(("ann", 0.0, 2.0), watermark=2.0),
        words("a b", 1.0, is_last=True),
        lane=MIXED,
    )
    assert segments(drafts) == [("ann", "a b")]


def test_turns_behind_every_word_are_forgotten() -> None:
    many = turns(*((f"s{i}", i * 1.0, i + 1.0) for i in range(50)), watermark=50.0)
    state, _ = drive(many, words("a", 45.0, is_last=True), annotation("watermark", start=48.0), lane=MIXED)
    assert [turn.speaker for turn in state.turns] == ["s47", "s48", "s49"]


def test_the_end_closes_everything() -> None:
    state, drafts = drive(words("a b", 0.0), annotation("ended", start=1.0), lane=MIXED)
    assert segments(drafts) == [("unknown", "a b")]
    assert state.pending == ()


def test_a_gap_is_passed_on_behind_the_words_before_it() -> None:
    gap = annotation("gap", start=3.0, gap=Gap(end_sample=32_000, reason="missing_audio"))
    _, drafts = drive(AGENT, words("a b", 0.0), gap)
    assert [d.kind for d in drafts] == ["segment", "gap", "coverage"]
    _, drafts = drive(AGENT, replace(gap, stage="diarize"))
    assert drafts == []


def test_a_watermark_is_passed_on_behind_the_words_before_it() -> None:
    _, drafts = drive(AGENT, words("a b", 0.0), annotation("watermark", start=3.0))
    assert [(d.kind, d.start_sample) for d in drafts] == [("segment", 0), ("watermark", 24_000)]


def test_refused_text_marks_the_call() -> None:
    refused = Rejected(start_sample=8_000, end_sample=16_000, reason="repetition")
    _, drafts = drive(words("", 2.0, is_last=True, rejected=(refused,)))
    draft, coverage = drafts
    assert [(span.kind, span.reason) for span in coverage.body["coverage"].spans] == [
        ("non_speech", ""),
        ("refused", "repetition"),
    ]
    assert (draft.kind, draft.start_sample) == ("degraded", 8_000)
    assert (draft.body["degraded"].stage, draft.body["degraded"].reason) == ("asr", "rejected_text:repetition")


@pytest.mark.parametrize("is_late", [False, True], ids=["", "speakers-known-late"])
def test_a_segment_does_not_reach_across_speech_that_was_refused(is_late: bool) -> None:
    """asr ends an utterance at what its decoder does not survive; what is left of it opens the same one anew."""
    lost = Rejected(start_sample=8_000, end_sample=16_000, reason="decoder_crash")
    spoken = [
        words("a b", 0.0),
        words("", 2.0, is_last=True, rejected=(lost,)),
        words("c d", 2.0),
        words("e f", 3.0, is_last=True),
    ]
    state, drafts = drive(*([*spoken, AGENT] if is_late else [AGENT, *spoken]))
    assert segments(drafts) == [("agent", "a b"), ("agent", "c d e f")]
    assert state.pending == ()
    spans = [span for draft in drafts if draft.kind == "coverage" for span in draft.body["coverage"].spans]
    assert [(span.kind, span.end_sample) for span in spans] == [
        ("segment", 8_000),
        ("refused", 16_000),
        ("segment", 32_000),
    ]


def test_joined_words_have_no_space() -> None:
    record = words("東 京 です", 0.0, is_last=True)
    joined = tuple(replace(word, is_joined=True) for word in record.words.words)  # type: ignore[union-attr]
    _, drafts = drive(AGENT, replace(record, words=replace(record.words, words=joined)))
    assert segments(drafts) == [("agent", "東京です")]


def test_a_state_goes_on_where_it_was() -> None:
    assemble = logic.AssembleLogic(ASSEMBLE)
    state, _ = drive(AGENT, words("a", 0.0, is_last=True), annotation("watermark", start=1.0))
    snapshot = assemble.snapshot(state)
    assert snapshot is not None
    restored = assemble.restore(LANE, snapshot.data)
    record = words("b", 2.0, utterance=1, is_last=True)
    assert assemble.plan(restored, record).outputs == assemble.plan(state, record).outputs


def test_settings_are_seconds() -> None:
    config = logic.make(AssembleSettings(sentence_seconds=10, speaker_wait_seconds=2))._config
    assert (config.sentence_seconds, config.longest_seconds, config.wait_seconds) == (10, 30, 2)
    assert config.longest_wait_seconds == 600


@pytest.mark.parametrize("roles", [("agent", "customer"), ("mixed", "mixed")])
def test_no_channel_waits_for_another(roles: tuple[str, str]) -> None:
    call = Call(script={0: said("hello there.", at=0.4), 1: ()}, seconds=4.0, roles=roles)
    log = [record for record in run_chain(call).annotations if record.channel != 1]
    made = outputs_of(run(stages(call)["assemble"], log))
    assert [record.segment.text for record in made if record.segment] == ["hello there."]


@pytest.mark.parametrize("behind", [1, 5, 12, 1_000])
def test_separate_channels_are_the_same_however_late_diarize_is(behind: int) -> None:
    script = {0: said("one two. three", at=0.4) + said("four.", at=4.0), 1: said("five six seven", at=1.0)}
    call = Call(script=script, seconds=6.0, controls=((3.0, "hold", {"hold": Hold(active=True)}),))
    log = run_chain(call).annotations
    asr, diarize = ([record for record in log if record.stage == stage] for stage in ("asr", "diarize"))
    stage = stages(call)["assemble"]
    expected = outputs_of(run(stage, [*diarize[:-1], *asr, diarize[-1]]))
    assert sum(record.segment is not None for record in expected) == 3
    assert outputs_of(run(stage, [*asr[:behind], *diarize[:-1], *asr[behind:], diarize[-1]])) == expected
