"""What is written as RTTM is read again as it was, and any text is either RTTM or refused with a line number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.rttm import NOTHING, RttmError, SpeakerTurn, read_rttm, write_rttm

names = st.text(min_size=1).map(lambda text: "".join(text.split())).filter(lambda text: text not in ("", NOTHING))
milliseconds = st.integers(0, 10**8).map(lambda count: count / 1000)
turns = st.builds(
    SpeakerTurn,
    file=names,
    channel=st.integers(0, 64),
    start_seconds=milliseconds,
    duration_seconds=milliseconds,
    speaker=names,
)


@given(st.lists(turns))
def test_what_is_written_is_read(written: list[SpeakerTurn]) -> None:
    assert read_rttm(write_rttm(written)) == tuple(written)


@given(st.lists(turns), st.lists(turns))
def test_files_may_be_put_one_behind_the_other(first: list[SpeakerTurn], second: list[SpeakerTurn]) -> None:
    assert read_rttm(write_rttm(first) + write_rttm(second)) == (*first, *second)


@given(st.text() | st.lists(st.sampled_from(["SPEAKER", "LEXEME", "1", "0.5", "x", ";;", "<NA>", "\n"])).map(" ".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    lines = len(text.splitlines())
    try:
        found = len(read_rttm(text))
    except RttmError as error:
        found = error.line
    assert found <= lines
