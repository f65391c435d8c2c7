"""Segments that were published before diarization had come to their words, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.assemble import snapshots
from pipeline.assemble.logic import AssembleLogic
from pipeline.assemble.segments import MOST_OWED
from schemas.records import CallAnnotation, Word
from tests.fakes import ASSEMBLE, CALL
from tests.unit.assemble.records import LANE, MIXED, annotation, drive, segments, turns, words

IMPATIENT = replace(ASSEMBLE, longest_wait_seconds=60.0)


def heard(to: float) -> CallAnnotation:
    """Return that diarize has come so far, and named nobody."""
    return annotation("unheard_of", stage="diarize", start=to)


def revisions(drafts: list[Any]) -> list[tuple[str, int, str, str, int]]:
    found = [draft.body["segment"] for draft in drafts if draft.kind == "segment"]
    return [(one.segment_id, one.revision, one.speaker, one.text, one.end_sample) for one in found]


def test_a_speaker_that_is_named_late_is_a_revision() -> None:
    state, drafts = drive(
        words("a b", 1.0, is_last=True), heard(8.0), turns(("ann", 0.0, 9.0), watermark=2.0), lane=MIXED
    )
    assert revisions(drafts) == [
        (f"{CALL}/0/8000", 0, "unknown", "a b", 16_000),
        (f"{CALL}/0/8000", 1, "ann", "a b", 16_000),
    ]
    assert state.owed == ()
    assert (state.voices.unknown_words, state.voices.corrected_words) == (2, 2)


def test_words_of_several_speakers_become_segments_that_cover_what_one_did() -> None:
    spoken = turns(("ann", 0.0, 2.0), ("bob", 2.3, 3.2), watermark=4.0)
    _, drafts = drive(words("a b c d", 1.0, is_last=True), heard(9.0), spoken, lane=MIXED)
    assert revisions(drafts)[1:] == [
        (f"{CALL}/0/8000", 1, "ann", "a b", 16_000),
        (f"{CALL}/0/16000", 1, "bob", "c d", 24_000),
    ]
    parts = [draft.body["segment"].words for draft in drafts[1:] if draft.kind == "segment"]
    assert [word.text for part in parts for word in part] == ["a", "b", "c", "d"]


def test_a_part_may_stay_without_a_speaker() -> None:
    _, drafts = drive(
        words("a b c", 1.0, is_last=True), heard(9.0), turns(("ann", 2.0, 3.0), watermark=4.0), lane=MIXED
    )
    assert segments(drafts) == [("unknown", "a b c"), ("unknown", "a b"), ("ann", "c")]


def test_who_was_named_too_early_is_corrected_too() -> None:
    """The turn had reached into the word, and its neighbour's not yet."""
    early, late = turns(("ann", 0.0, 1.1), watermark=0.5, start=7.0), turns(("bob", 1.1, 3.0), watermark=3.0, start=8.0)
    state, drafts = drive(words("a", 1.0, is_last=True), early, late, lane=MIXED)
    assert segments(drafts) == [("ann", "a"), ("bob", "a")]
    assert [(one.speaker, one.spoken_samples) for one in state.voices.voices] == [("bob", 4_000)]
    assert (state.voices.unknown_words, state.voices.corrected_words) == (0, 0)


@pytest.mark.parametrize(
    "settling",
    [
        turns(watermark=2.0),
        turns(("unknown", 0.0, 9.0), watermark=2.0),
        annotation("watermark", stage="diarize", start=2.0),
        heard(66.6),
        annotation("watermark", start=121.6),
        annotation("ended", start=9.0),
    ],
    ids=["nobody", "unknown", "passed", "diarize-is-far-on", "asr-is-far-on", "ended"],
)
def test_what_is_settled_stays_what_it_is(settling: CallAnnotation) -> None:
    first = [words("a", 1.0, is_last=True), heard(8.0)]
    state, drafts = drive(*first, lane=MIXED, config=IMPATIENT)
    assert len(state.owed) == 1
    late = turns(("ann", 0.0, 9.0), watermark=9.0)
    state, drafts = drive(*first, settling, late, lane=MIXED, config=IMPATIENT)
    assert (state.owed, segments(drafts)) == ((), [("unknown", "a")])


def test_what_is_known_when_the_call_ends_is_said() -> None:
    known = turns(("ann", 0.0, 9.0), watermark=0.5)
    _, drafts = drive(words("a", 1.0, is_last=True), heard(8.0), known, annotation("ended", start=9.0), lane=MIXED)
    assert segments(drafts) == [("unknown", "a"), ("ann", "a")]


def test_nothing_is_owed_where_diarize_knows_nobody_for_ever() -> None:
    knows_nobody = turns(("unknown", 0.0, None), watermark=2**62 / 8_000)
    state, drafts = drive(knows_nobody, words("a", 1.0, is_last=True), annotation("ended", start=9.0), lane=MIXED)
    assert (state.owed, state.voices.unknown_words) == ((), 0)
    assert [draft.kind for draft in drafts] == ["segment", "coverage"]


def test_nothing_is_owed_on_a_separate_channel() -> None:
    state, drafts = drive(words("a", 1.0, is_last=True), heard(8.0), turns(("ann", 0.0, 9.0), watermark=9.0), lane=LANE)
    assert (state.owed, segments(drafts)) == ((), [("agent", "a")])


def test_a_word_without_length_stays_with_the_word_before_it() -> None:
    """The segment behind it may start where it does."""
    record = words("a b", 1.0, is_last=True)
    assert record.words is not None
    made = (record.words.words[0], Word(text="b", start_sample=12_000, end_sample=12_000, probability=0.5))
    record = replace(record, words=replace(record.words, words=made))
    spoken = turns(("ann", 0.0, 1.5), ("bob", 1.5, 3.0), watermark=3.0)
    _, drafts = drive(record, heard(9.0), spoken, lane=MIXED)
    assert segments(drafts) == [("unknown", "a b"), ("ann", "a b")]


def test_no_more_is_owed_than_a_state_has_room_for() -> None:
    spoken = [words("a", 2.0 * i, utterance=i, is_last=True) for i in range(MOST_OWED + 40)]
    state, _ = drive(*spoken, heard(10_000.0), lane=MIXED, config=replace(ASSEMBLE, longest_wait_seconds=20_000.0))
    assert len(state.owed) == MOST_OWED + 40
    state, drafts = drive(
        *spoken, heard(10_000.0), heard(10_001.0), lane=MIXED, config=replace(ASSEMBLE, longest_wait_seconds=20_000.0)
    )
    assert len(state.owed) == MOST_OWED
    assert len(segments(drafts)) == MOST_OWED + 40


def counted(*records: CallAnnotation) -> list[CallAnnotation]:
    """Number the records of either writer."""
    counts = {"asr": 0, "diarize": 0}
    made = []
    for record in records:
        made.append(replace(record, sequence=counts[record.stage]))
        counts[record.stage] += 1
    return made


READ = counted(
    words("a b", 1.0),
    words("c", 2.0, is_last=True),
    annotation("watermark", start=3.0),
    words("d e", 4.0, utterance=1, is_last=True),
    heard(10.0),
    words("f", 12.0, utterance=2),
)
LATE = turns(("ann", 0.0, 2.0), ("bob", 2.0, 20.0), watermark=20.0, start=20.0)


def test_words_that_wait_are_read_again() -> None:
    assemble = AssembleLogic(ASSEMBLE)
    state, _ = drive(*READ[:5], lane=MIXED)
    snapshot = assemble.snapshot(state)
    assert snapshot is not None
    assert (snapshot.needed_sequence, snapshot.needed_writer) == (0, "asr")
    assert len(snapshot.data) < 200
    restored = assemble.restore(MIXED, snapshot.data)
    for record in READ[:4]:
        if record.stage == "asr":
            step = assemble.plan(restored, record)
            assert step.outputs == ()
            assert assemble.snapshot(step.state) is None
            restored = step.state
    for record in (READ[5], LATE, annotation("ended", start=21.0)):
        step, expected = assemble.plan(restored, record), assemble.plan(state, record)
        assert step.outputs == expected.outputs
        restored, state = step.state, expected.state


def test_of_words_that_are_gone_the_rest_is_read_again() -> None:
    """Topics lose what is oldest: here the first record of the first segment."""
    assemble = AssembleLogic(ASSEMBLE)
    state, _ = drive(*READ[:5], lane=MIXED)
    snapshot = assemble.snapshot(state)
    assert snapshot is not None
    restored = assemble.restore(MIXED, snapshot.data)
    for record in READ[1:4]:
        restored = assemble.plan(restored, record).state
    assert segments(list(assemble.plan(restored, LATE).outputs)) == [("bob", "d e")]


def test_nothing_is_recorded_where_an_earlier_state_will_do() -> None:
    assemble = AssembleLogic(ASSEMBLE)
    state, _ = drive(*READ, lane=MIXED)
    assert (len(state.owed), state.has_written, assemble.snapshot(state)) == (2, False, None)


def test_words_of_too_many_records_are_recorded_without_an_output() -> None:
    assemble = AssembleLogic(ASSEMBLE)
    spoken = counted(*(words("a", 1.0 * i) for i in range(snapshots.FEWEST_READ_AGAIN + 1)))
    state, drafts = drive(*spoken, lane=MIXED)
    assert drafts == []
    assert assemble.snapshot(state) is not None
    assert assemble.snapshot(drive(*spoken[:-1], lane=MIXED)[0]) is None


def test_turns_far_ahead_of_the_words_are_read_again_with_the_rest() -> None:
    assemble = AssembleLogic(ASSEMBLE)
    few, many = ([(f"speaker_{at % 2}", at * 2.0, at * 2.0 + 2.0) for at in range(count)] for count in (50, 900))
    for spans, is_recorded in ((few, True), (many, False)):
        snapshot = assemble.snapshot(drive(turns(*spans, watermark=2_000.0), lane=MIXED)[0])
        assert (snapshot is not None) is is_recorded
        assert snapshot is None or len(snapshot.data) <= snapshots.LARGEST
