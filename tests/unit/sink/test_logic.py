from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.core.errors import PoisonError
from pipeline.sink.logic import merge, plan
from pipeline.sink.stores.base import CallRow
from schemas.records import CallSegment, Ended, Started
from tests.unit.sink.records_of_calls import ended, envelope, gap, segment, speakers, started, whole_call


def fold(records: list[CallSegment]) -> CallRow | None:
    call = None
    for change in plan(records).calls:
        call = merge(call, change)
    return call


def test_a_started_call_is_live_and_keeps_channels_and_attributes() -> None:
    call = fold([started()])
    assert call is not None
    assert call.state == "live"
    assert call.tenant == "acme"
    assert call.attributes == {"queue": "billing", "agent": "7"}
    assert [channel.role for channel in call.channels] == ["agent", "customer"]
    assert call.started_ms == 1_700_000_000_000
    assert call.duration_seconds is None


def test_an_ended_call_is_complete_and_lasts_as_long_as_its_longest_channel() -> None:
    call = fold([started(), ended()])
    assert call is not None
    assert (call.state, call.duration_seconds) == ("complete", 490_400 / 8000)


def test_without_ends_of_channels_the_position_of_the_end_counts() -> None:
    call = fold([started(), ended(ended=Ended(end_samples={}), start_sample=16_000)])
    assert call is not None
    assert call.duration_seconds == 2.0


def test_a_repeated_start_does_not_make_a_complete_call_live_again() -> None:
    call = fold(whole_call())
    assert call == fold(whole_call() + whole_call()[:5])
    assert call is not None
    assert call.state == "complete"


def test_a_call_has_the_channels_that_it_has_started_with() -> None:
    mono = replace(started(sequence=1), started=Started(channels=started().started.channels[:1]))
    call = fold([started(), mono])
    assert call is not None
    assert [channel.role for channel in call.channels] == ["agent", "customer"]


def test_a_control_record_that_would_make_repeats_of_all_others_is_refused() -> None:
    with pytest.raises(PoisonError, match="sequence"):
        fold([started(), ended(sequence=2**40)])


def test_an_interrupted_call_becomes_live_when_resumed() -> None:
    interrupted = envelope("c1", "interrupted", sequence=1)
    resumed = envelope("c1", "resumed", sequence=2)
    states = [fold([started(), *rest]) for rest in ([interrupted], [interrupted, resumed], [resumed, interrupted])]
    assert [state.state for state in states if state] == ["interrupted", "live", "live"]


def test_a_record_of_a_channel_never_changes_the_state() -> None:
    call = fold([started(), replace(ended(), channel=0)])
    assert call is not None
    assert call.state == "live"


def test_a_segment_makes_its_call_known() -> None:
    call = fold([segment("unseen")])
    assert call == CallRow(call_id="unseen")


def test_a_start_after_the_first_segment_still_counts() -> None:
    call = fold([segment(), started()])
    assert call is not None
    assert len(call.channels) == 2


def test_a_start_that_is_told_late_gives_the_channels_and_nothing_else() -> None:
    call = fold([ended(), started()])
    assert call is not None
    assert (call.state, call.sequence, len(call.channels)) == ("complete", 9, 2)


def test_every_kind_goes_to_its_rows() -> None:
    batch = plan(whole_call())
    assert [(row.channel, row.start_sample, row.revision) for row in batch.segments] == [
        (0, 3360, 0),
        (1, 9600, 0),
        (0, 8800, 0),
        (1, 9600, 1),
    ]
    assert [(row.start_sample, row.end_sample, row.reason) for row in batch.gaps] == [(72_000, 75_200, "missing_audio")]
    assert [(row.stage, row.offset) for row in batch.degraded] == [("asr", 7)]
    assert [(row.kind, dict(row.detail)) for row in batch.events][:3] == [
        ("hold", {"active": True}),
        ("dtmf", {"digits": "12#"}),
        ("hold", {"active": False}),
    ]


def test_unknown_kinds_and_kinds_without_their_content_are_passed_over() -> None:
    batch = plan([envelope("c1", "something_new"), envelope("c1", "segment"), envelope("c1", "gap")])
    assert (batch.segments, batch.gaps, batch.events) == ((), (), ())
    assert {change.call_id for change in batch.calls} == {"c1"}


def test_probabilities_are_those_of_the_wire() -> None:
    word = plan([segment()]).segments[0].words[0]
    assert word.probability != 0.98
    assert abs(word.probability - 0.98) < 1e-7


def test_nul_characters_do_not_reach_the_store() -> None:
    attributes = Started(channels=(), attributes={"a\x00": "b\x00"})
    named = speakers(("a\x00", "b\x00", "c\x00", 1.0))
    batch = plan([segment(text="a\x00b"), started(started=attributes), gap(), named])
    assert "\x00" not in repr(batch)
    assert batch.segments[0].text == "a\ufffdb"
