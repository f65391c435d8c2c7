"""The transcript depends on the audio, not on how it was cut into records."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Hold
from tests.fakes import Call, run_chain
from tests.property.durable import BOUNDED, calls
from tests.transcripts import transcript, words_of

SIZES = (0.02, 0.064, 0.1, 0.37, 1.0, 2.0)
CONTROLS = {"pause": {}, "resume": {}, "hold": {"hold": Hold(active=True)}, "interrupted": {}}


@BOUNDED
@given(call=calls(), size=st.sampled_from(SIZES))
def test_every_word_once_whatever_the_record_size(call: Call, size: float) -> None:
    segments = run_chain(call, call.records(size)).segments
    for channel, words in call.script.items():
        assert words_of(segments, channel) == [word.text for word in words]
    assert transcript(segments) == transcript(run_chain(call, call.records(0.2)).segments)


@BOUNDED
@given(call=calls(controls=CONTROLS, seconds=5.0), size=st.sampled_from(SIZES))
def test_control_records_stand_where_they_stand_in_the_audio(call: Call, size: float) -> None:
    one = run_chain(call, call.records(size)).segments
    other = run_chain(call, call.records(0.2)).segments
    assert transcript(one) == transcript(other)
    controls = [[(record.kind, record.start_sample) for record in made if record.channel < 0] for made in (one, other)]
    assert controls[0] == controls[1]
