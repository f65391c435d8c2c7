"""Local errors: counted once for each speaker, whichever is which."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.diarize.training.errors import LocalErrors, local_errors


def flags(*columns: str) -> np.ndarray:
    """Return who speaks when: a string of 0 and 1 for each speaker."""
    return np.array([[letter == "1" for letter in column] for column in columns]).T


@pytest.mark.parametrize(
    ("said", "heard", "counts"),
    [
        (flags("1100", "0011"), flags("0011", "1100"), (0, 0, 0, 4)),  # only the numbers differ
        (flags("1100", "0011"), flags("1111", "0000"), (0, 0, 2, 4)),
        (flags("1111", "0011"), flags("1111", "0000"), (2, 0, 0, 6)),
        (flags("1100", "0000"), flags("1100", "0110"), (0, 2, 0, 2)),
        (flags("1000", "0100", "0010", "0001"), flags("1000", "0100", "0011"), (0, 0, 1, 4)),
        (flags("1100"), flags("0000", "0000", "1100"), (0, 0, 0, 2)),
        (np.zeros((4, 0), dtype=bool), flags("0100", "0000"), (0, 1, 0, 0)),
        (flags("0100"), np.zeros((4, 0), dtype=bool), (1, 0, 0, 1)),
    ],
)
def test_counts(said: np.ndarray, heard: np.ndarray, counts: tuple[int, int, int, int]) -> None:
    found = local_errors(said, heard)
    assert (found.missed, found.false_alarm, found.confusion, found.speech) == counts


def test_collar_leaves_out_what_is_near_a_change() -> None:
    said, heard = flags("0011110000"), flags("0111111000")
    assert local_errors(said, heard).false_alarm == 2
    found = local_errors(said, heard, collar_frames=1)
    assert (found.missed, found.false_alarm, found.speech) == (0, 0, 2)


def test_sum_and_rate() -> None:
    total = LocalErrors(missed=1, speech=10) + LocalErrors(false_alarm=2, confusion=3, speech=10)
    assert total.rate == 0.3
    assert str(total) == "error 30.0% (missed 5.0%, false alarm 10.0%, confusion 15.0%)"
    assert total.document()["error"] == 0.3
    assert LocalErrors().rate == 0
    assert LocalErrors(false_alarm=1).document() == {
        "error": None, "missed": None, "false_alarm": None, "confusion": None, "speech_frames": 0
    }  # fmt: skip
