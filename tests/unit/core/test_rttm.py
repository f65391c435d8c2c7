from __future__ import annotations

import pytest

from pipeline.core.errors import UsageError
from pipeline.core.rttm import RttmError, SpeakerTurn, read_rttm, write_rttm

LINE = "SPEAKER call-1 1 0.500 2.250 <NA> <NA> ann <NA> <NA>"


def test_a_speaker_line_is_read() -> None:
    (turn,) = read_rttm(LINE)
    assert turn == SpeakerTurn(file="call-1", start_seconds=0.5, duration_seconds=2.25, speaker="ann")
    assert turn.end_seconds == 2.75


def test_nine_fields_tabs_and_carriage_returns_are_read() -> None:
    (turn,) = read_rttm("SPEAKER\tcall-1\t2\t0.5\t2.25\t<NA>\t<NA>\tann\t0.9\r\n")
    assert (turn.channel, turn.speaker) == (2, "ann")


def test_other_types_comments_and_empty_lines_are_left_out() -> None:
    text = f"""
;; made by hand
SPKR-INFO call-1 1 <NA> <NA> <NA> unknown ann <NA> <NA>
LEXEME call-1 1 0.5 0.2 hello lex ann <NA>
  {LINE}
"""
    assert len(read_rttm(text)) == 1
    assert read_rttm("") == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("SPEAKER call-1 1 0.5 2.25 <NA> <NA> ann", "has 8 fields; a SPEAKER line has 9 or 10"),
        (LINE + " more", "has 11 fields"),
        (LINE.replace("SPEAKER", "SPEEKER"), "'SPEEKER' is no type of RTTM"),
        (LINE.replace(" 1 ", " one "), r"the channel \(field 3\) is 'one', not a whole number"),
        (LINE.replace(" 1 ", " -1 "), "the channel"),
        (LINE.replace("0.500", "soon"), r"the start \(field 4\) is 'soon', not a number of seconds"),
        (LINE.replace("0.500", "-0.5"), "the start .* not a time from 0 on"),
        (LINE.replace("2.250", "<NA>"), r"the duration \(field 5\) is '<NA>'"),
        (LINE.replace("2.250", "nan"), "the duration"),
        (LINE.replace("2.250", "inf"), "the duration"),
        (LINE.replace("ann", "<NA>"), "names no speaker"),
    ],
)
def test_a_wrong_line_is_named_with_its_number_and_what_is_wrong(line: str, reason: str) -> None:
    with pytest.raises(RttmError, match=rf"^turns\.rttm:3: .*{reason}") as caught:
        read_rttm(f"{LINE}\n\n{line}\n", name="turns.rttm")
    assert caught.value.line == 3
    assert isinstance(caught.value, UsageError)


def test_names_are_written_without_spaces() -> None:
    turns = [
        SpeakerTurn(file="my call", start_seconds=1, duration_seconds=0.1234, speaker="Ann  Lee"),
        *read_rttm(LINE),
    ]
    assert write_rttm(turns) == (
        f"SPEAKER my_call 1 1.000 0.123 <NA> <NA> Ann_Lee <NA> <NA>\n{LINE}\n"  # the order stays
    )
    assert "unknown" in write_rttm([SpeakerTurn(file="c", start_seconds=0, duration_seconds=1, speaker=" ")])
