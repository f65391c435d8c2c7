"""Turns that come behind the words: whatever the order and the restarts, each word is in the transcript once, with its speaker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.assemble import snapshots
from pipeline.assemble.segments import speaker_of
from pipeline.assemble.voices import Roles
from schemas.records import CallAnnotation, Identity, Turn
from tests.fakes import ASSEMBLE, Call, outputs_of, passed, run, run_chain, said, stages, step
from tests.property.durable import BOUNDED, Crash, assert_same, by_lane, crashes, once, scripts, undisturbed
from tests.property.test_coverage import account
from tests.turns import Span, diarized, final, in_time, merged, who

SECONDS = 9.0
RULES = st.sampled_from([Roles(rule=rule, phrases=("w3",)) for rule in ("none", "first", "longest", "phrase")])
ANN = (Identity(speaker="speaker_2", similarity=0.5, name="Ann", role="agent"),)


@pytest.fixture(autouse=True, params=[False, True], ids=["", "words-are-read-again"])
def recorded_while_words_wait(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let short calls be recorded while their words wait, too, as long ones are."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            patch.setattr(snapshots, "FEWEST_READ_AGAIN", 1)
            patch.setattr(snapshots, "RECORDED_EACH", 1)
        yield


@st.composite
def speakers(draw: st.DrawFn) -> list[Span]:
    """Draw who speaks when: turns with and without holes between them, of up to three speakers."""
    spans: list[Span] = []
    at = draw(st.integers(0, 10)) / 10
    while at < SECONDS:
        end = at + draw(st.integers(3, 40)) / 10
        spans.append((f"speaker_{draw(st.integers(1, 3))}", at, min(end, SECONDS)))
        at = end + draw(st.sampled_from([0.0, 0.0, 0.3, 1.5]))
    return spans


@st.composite
def mixed_calls(draw: st.DrawFn) -> Call:
    """Draw a call of one leg with several speakers."""
    return Call(script={0: draw(scripts(channel=0, seconds=SECONDS))}, seconds=SECONDS, roles=("mixed",))


@st.composite
def broken_calls(draw: st.DrawFn) -> Call:
    """Draw one that is paused now and then."""
    times = sorted(draw(st.lists(st.integers(5, 85), max_size=4, unique=True)))
    kinds = ("pause", "resume") * 2
    controls = tuple((at / 10, kind, {}) for at, kind in zip(times, kinds, strict=False))
    return replace(draw(mixed_calls()), controls=controls)


def without(log: Sequence[CallAnnotation], lost: set[int]) -> list[CallAnnotation]:
    """Return the log without some of the channel's records: those that could not be used, or never came."""
    return [record for at, record in enumerate(log) if at not in lost or record.channel < 0]


@st.composite
def logs(draw: st.DrawFn, call: Call, spans: Sequence[Span]) -> list[CallAnnotation]:
    """Draw how late turns and their watermark are, and how fast either writer is."""
    late = draw(st.sampled_from([0.0, 0.5, 2.0, 6.0, 8.0, 20.0]))
    named = {draw(st.integers(0, 9)) * 1.0: ANN} if draw(st.booleans()) else None
    turns = diarized(
        call,
        spans,
        late=late,
        watermark_late=late + draw(st.sampled_from([0.0, 0.0, 3.0, 9.0])),
        every=draw(st.sampled_from([0.5, 1.0, 2.0])),
        identities=named,
    )
    order = draw(st.lists(st.sampled_from([False, False, True]), max_size=80))
    return merged(run_chain(call).annotations, turns, order)


def spoken(call: Call, spans: Sequence[Span], records: Sequence[Any]) -> list[tuple[str, str]]:
    """Return who has said which word, when everything is known."""
    turns = [
        Turn(speaker=name, start_sample=round(start * call.rate), end_sample=round(end * call.rate))
        for name, start, end in spans
    ]
    words = [word for record in final(records) if record.segment is not None for word in record.segment.words]
    return [(speaker_of(turns, word, call.rate), word.text) for word in words]


@BOUNDED
@given(call=mixed_calls(), spans=speakers(), data=st.data())
def test_each_word_has_its_speaker_however_late_that_is_known(
    call: Call, spans: list[Span], data: st.DataObject
) -> None:
    made = outputs_of(run(stages(call)["assemble"], data.draw(logs(call, spans))))
    assert [text for _, text in who(made)] == [word.text for word in call.script[0]]
    assert who(made) == spoken(call, spans, made)
    assert account(made).problems == ()


@BOUNDED
@given(call=mixed_calls(), spans=speakers(), data=st.data())
def test_roles_rest_on_who_speaks_when_and_not_on_when_it_is_known(
    call: Call, spans: list[Span], data: st.DataObject
) -> None:
    stage = stages(call, assemble=replace(ASSEMBLE, roles=Roles(rule="first")))["assemble"]
    made = outputs_of(run(stage, data.draw(logs(call, spans))))
    heard = list(dict.fromkeys(speaker for speaker, _ in spoken(call, spans, made) if speaker != "unknown"))
    told = [record.speakers for record in made if record.speakers is not None]
    found = told[-1].speakers if told else ()
    assert [one.speaker for one in found] == heard
    if not any(one.name for one in found):
        assert [one.role for one in found] == ["agent", "customer", "customer"][: len(heard)]
    assert all(speakers.corrected_words <= speakers.unknown_words for speakers in told)


@BOUNDED
@given(
    call=broken_calls(),
    spans=speakers(),
    roles=RULES,
    longest=st.sampled_from([600.0, 3.0, 1.0]),
    lost=st.sets(st.integers(1, 60), max_size=3),
    data=st.data(),
)
def test_restarts_change_nothing(
    call: Call, spans: list[Span], roles: Roles, longest: float, lost: set[int], data: st.DataObject
) -> None:
    stage = stages(call, assemble=replace(ASSEMBLE, longest_wait_seconds=longest, roles=roles))["assemble"]
    log = without(data.draw(logs(call, spans)), lost)
    expected = undisturbed(stage, log)
    committed = [word.text for record in log if record.words is not None for word in record.words.words]
    assert [text for _, text in who(expected)] == committed
    assert account(expected).problems == ()
    assert_same(stage, log, data.draw(crashes()), expected)


@BOUNDED
@given(call=mixed_calls(), spans=speakers(), share=st.floats(0.02, 0.98), gone=st.integers(0, 60), data=st.data())
def test_words_whose_records_are_gone_are_accounted_for(
    call: Call, spans: list[Span], share: float, gone: int, data: st.DataObject
) -> None:
    """The stage comes back behind what its topic has deleted, and words that it had set aside for later are gone."""
    stage, log = stages(call)["assemble"], data.draw(logs(call, spans))
    at = max(2, round(len(log) * share))
    first = min(at + gone - 30, len(log) - 2)
    states: dict[int, Any] = {}
    written: list[Any] = []
    flow = stage.flow()
    for offset, record in enumerate(log[:at]):
        effects = step(flow, stage, record, offset)
        written += effects.outputs
        states |= {state.channel: passed(state) for state in effects.states}
    if flow.is_ended or first < 1:
        return
    flow = stage.flow(restored=states, read_from=first, first_offset=first)
    for offset, record in enumerate(log[first:], start=first):
        written += step(flow, stage, record, offset, call.started).outputs
    if flow.is_ended:
        once(written)
        final(written)
        assert account(written).problems == ()


@BOUNDED
@given(call=mixed_calls(), spans=speakers(), data=st.data())
def test_repeats_change_nothing(call: Call, spans: list[Span], data: st.DataObject) -> None:
    stage, log = stages(call)["assemble"], data.draw(logs(call, spans))
    end = data.draw(st.integers(1, len(log)))
    start = data.draw(st.integers(max(0, end - 40), end))
    made = run(stage, [*log[:end], *log[start:end], *log[end:]])
    assert by_lane(outputs_of(made)) == by_lane(outputs_of(run(stage, log)))


TWO = Call(
    script={0: said("one two three four five six.", at=0.5) + said("seven eight nine.", at=4.0)},
    seconds=8.0,
    roles=("mixed",),
)
SPANS: list[Span] = [("speaker_1", 0.0, 1.4), ("speaker_2", 1.4, 3.0), ("speaker_1", 3.5, 8.0)]


@pytest.mark.parametrize("late", [2.0, 30.0])
@pytest.mark.parametrize("lost", [None, 5, 9, 14])
def test_between_any_two_effects(late: float, lost: int | None) -> None:
    """With a gap in an utterance, too: what follows it belongs to another segment, though words wait on either side."""
    stage = stages(TWO, assemble=replace(ASSEMBLE, wait_seconds=0.5, roles=Roles(rule="first")))["assemble"]
    speech = run_chain(TWO).outputs["vad"]
    if lost is not None:
        speech = [record for record in speech if record.channel < 0 or record.sequence != lost]
    annotations = outputs_of(run(stages(TWO)["asr"], speech)) + outputs_of(run(stages(TWO)["diarize"], speech))
    log = in_time(annotations, diarized(TWO, SPANS, late=late, every=0.5))
    expected = undisturbed(stage, log)
    assert who(expected) == spoken(TWO, SPANS, expected)
    assert any(record.segment.revision for record in expected if record.segment)
    for at in range(len(log)):
        for share in (0.0, 0.5, 0.99):
            assert_same(stage, log, [Crash(records=at, burst=1, share=share, lag=0)], expected)
