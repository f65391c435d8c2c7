"""Records that come twice change nothing; records that never come leave a gap, and what follows is still transcribed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.ids import CALL_CHANNEL
from schemas.records import CallAudio
from tests.fakes import Call, outputs_of, run, run_chain, stages, step
from tests.property.durable import BOUNDED, Crash, assert_same, by_lane, calls, crashes, log_of
from tests.transcripts import transcript, words_of

NAMES = st.sampled_from(["vad", "asr", "diarize", "assemble"])


@BOUNDED
@given(call=calls(), name=NAMES, data=st.data())
def test_a_stretch_that_comes_again_changes_nothing(call: Call, name: str, data: st.DataObject) -> None:
    """A producer that died wrote its last records again: the same records, later in the log."""
    log = log_of(call, name)
    end = data.draw(st.integers(1, len(log)), label="end")
    start = data.draw(st.integers(max(0, end - 40), end), label="start")
    repeated = [*log[:end], *log[start:end], *log[end:]]
    expected = outputs_of(run(stages(call)[name], log))
    made = run(stages(call)[name], repeated)
    assert by_lane(outputs_of(made)) == by_lane(expected)
    assert sorted({offset for effects in made for offset in effects.released}) == list(range(len(repeated)))


@BOUNDED
@given(call=calls(), name=NAMES, every=st.integers(1, 4))
def test_every_record_twice_changes_nothing(call: Call, name: str, every: int) -> None:
    log = log_of(call, name)
    doubled = [copy for index, record in enumerate(log) for copy in [record] * (2 if index % every == 0 else 1)]
    assert by_lane(outputs_of(run(stages(call)[name], doubled))) == by_lane(outputs_of(run(stages(call)[name], log)))


@BOUNDED
@given(call=calls(), name=NAMES, start=st.integers(0, 40))
def test_what_comes_again_behind_the_end_finds_the_mark(call: Call, name: str, start: int) -> None:
    log, stage = log_of(call, name), stages(call)[name]
    control = [state for effects in run(stage, log) for state in effects.states if state.channel == CALL_CHANNEL][-1]
    mark = stage.flow({CALL_CHANNEL: replace(control, started=None)})
    for offset, record in enumerate(log[start:], start=len(log)):
        effects = step(mark, stage, record, offset)
        assert (effects.released, effects.outputs, effects.states) == ([offset], [], [])


@BOUNDED
@given(call=calls(), data=st.data())
def test_missing_audio_is_a_gap_and_the_rest_is_transcribed(call: Call, data: st.DataObject) -> None:
    records = call.records()
    first = data.draw(st.integers(1, 20), label="first missing sequence of channel 0")
    count = data.draw(st.integers(1, 5), label="how many")
    missing = [r for r in records if r.channel == 0 and first <= r.sequence < first + count]
    segments = run_chain(call, [record for record in records if record not in missing]).segments
    start = missing[0].start_sample
    end = missing[-1].start_sample + len(missing[-1].audio.data) // 2  # type: ignore[union-attr]
    gaps = [(record.start_sample, record.gap.end_sample) for record in segments if record.gap is not None]
    assert gaps == [(start, end)]
    words = words_of(segments, 0)
    margin = 0.7  # a word that the gap cuts, or a burst too short for what is left of it, may be lost or garbled
    for word in call.script[0]:
        if word.end < start / call.rate - margin or word.start > end / call.rate + margin:
            assert words.count(word.text) == 1
    for channel in set(call.script) - {0}:
        assert words_of(segments, channel) == [word.text for word in call.script[channel]]


def without(records: list[CallAudio], missing: set[int], *, is_counted: bool) -> list[CallAudio]:
    """Leave out audio: records that were lost (``is_counted``), or audio the feed never had, a hole in the samples only."""
    kept, gone = [], dict.fromkeys(range(4), 0)
    for record in records:
        if record.kind == "audio" and record.sequence in missing:
            gone[record.channel] += 1
        else:
            shift = 0 if is_counted else gone.get(record.channel, 0)
            kept.append(replace(record, sequence=record.sequence - shift))
    return kept


@BOUNDED
@given(call=calls(), missing=st.sets(st.integers(0, 30), max_size=6), is_counted=st.booleans(), schedule=crashes(2))
def test_holes_in_the_audio_and_restarts(
    call: Call, missing: set[int], is_counted: bool, schedule: list[Crash]
) -> None:
    assert_same(stages(call)["vad"], without(call.records(), missing, is_counted=is_counted), schedule)


@BOUNDED
@given(call=calls(), name=NAMES, missing=st.sets(st.integers(1, 60), max_size=4), schedule=crashes(2))
def test_records_lost_between_stages_and_restarts(
    call: Call, name: str, missing: set[int], schedule: list[Crash]
) -> None:
    log = log_of(call, name)
    kept = [record for index, record in enumerate(log) if index not in missing or record.channel < 0]
    assert_same(stages(call)[name], kept, schedule)


@BOUNDED
@given(call=calls(seconds=5.0), sequence=st.integers(1, 12))
def test_an_unusable_record_is_rejected_and_the_rest_is_transcribed(call: Call, sequence: int) -> None:
    records = [
        replace(record, audio=replace(record.audio, encoding="opus"))
        if record.channel == 0 and record.sequence == sequence and record.audio is not None
        else record
        for record in call.records()
    ]
    segments = run_chain(call, records).segments
    assert [(record.degraded.stage, record.degraded.reason) for record in segments if record.degraded] == [
        ("vad", "PoisonError")
    ]
    assert len([record for record in segments if record.gap is not None]) == 1
    assert [record.kind for record in segments][-1] == "ended"
    rest = [record for record in transcript(segments) if record.channel > 0]
    assert rest == [record for record in transcript(run_chain(call).segments) if record.channel > 0]
