"""Diarization error rates of pyannote.metrics, against cases counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bench.diarization import scoring
from pipeline.bench.diarization.figures import Count, DiarizationErrors
from pipeline.bench.diarization.recordings import Recording, Speech, speech_of
from pipeline.bench.diarization.scoring import accuracy, check_metrics, diarization_errors
from pipeline.core.errors import NotReadyError
from pipeline.core.rttm import SpeakerTurn


def speech(*turns: tuple[str, float, float]) -> Speech:
    return speech_of(turns)


def parts(errors: DiarizationErrors) -> tuple[float, ...]:
    return errors.total, errors.missed, errors.false_alarm, errors.confusion


REFERENCE = speech(("A", 0.0, 10.0), ("B", 10.0, 20.0))


@pytest.mark.diarization
def test_names_of_labels_do_not_matter() -> None:
    errors, mapped = diarization_errors(REFERENCE, speech(("x", 10.0, 20.0), ("y", 0.0, 10.0)), 30.0)
    assert errors.rate == 0.0
    assert errors.total == 20.0
    assert mapped == {"x": "B", "y": "A"}


@pytest.mark.diarization
def test_components() -> None:
    output = speech(("s1", 0.0, 8.0), ("s2", 8.0, 18.0), ("s3", 25.0, 26.0))
    errors, mapped = diarization_errors(REFERENCE, output, 30.0)
    assert parts(errors) == pytest.approx((20.0, 2.0, 1.0, 2.0))  # 18-20 missed, 25-26 false, 8-10 confused
    assert errors.rate == pytest.approx(0.25)
    assert {label: mapped[label] for label in ("s1", "s2")} == {"s1": "A", "s2": "B"}


@pytest.mark.diarization
def test_overlapped_speech_counts_for_each_speaker() -> None:
    errors, _ = diarization_errors(speech(("A", 0.0, 10.0), ("B", 5.0, 10.0)), speech(("s1", 0.0, 10.0)), 10.0)
    assert parts(errors) == pytest.approx((15.0, 5.0, 0.0, 0.0))


@pytest.mark.diarization
def test_the_collar_is_left_out_on_each_side() -> None:
    output = speech(("s1", 0.0, 10.25), ("s2", 10.25, 20.0))
    assert diarization_errors(REFERENCE, output, 20.0)[0].confusion == pytest.approx(0.25)
    errors, _ = diarization_errors(REFERENCE, output, 20.0, collar_seconds=0.25)
    assert parts(errors) == pytest.approx((19.0, 0.0, 0.0, 0.0))  # 0-0.25, 9.75-10.25, 19.75-20 left out
    late = speech(("s1", 0.0, 10.35), ("s2", 10.35, 20.0))
    assert diarization_errors(REFERENCE, late, 20.0, collar_seconds=0.25)[0].confusion == pytest.approx(0.1)


@pytest.mark.diarization
def test_the_whole_recording_is_scored_and_nothing_behind_it() -> None:
    output = speech(("s1", 0.0, 10.0), ("s2", 10.0, 25.0))
    assert diarization_errors(REFERENCE, output, 30.0)[0].false_alarm == pytest.approx(5.0)
    assert diarization_errors(REFERENCE, output, 22.0)[0].false_alarm == pytest.approx(2.0)


@pytest.mark.diarization
def test_nobody_speaks_or_nobody_is_heard() -> None:
    errors, _ = diarization_errors({}, speech(("s1", 1.0, 3.0)), 10.0)
    assert errors.rate is None
    assert errors.false_alarm == 2.0
    assert diarization_errors(REFERENCE, {}, 20.0)[0].rate == 1.0


@pytest.mark.diarization
def test_accuracy_takes_everything_together() -> None:
    turns = tuple(
        SpeakerTurn(file="c", start_seconds=start, duration_seconds=10.0, speaker=speaker)
        for speaker, start in (("A", 0.0), ("B", 10.0), ("A", 20.0), ("B", 30.0), ("A", 40.0))
    )
    recording = Recording(name="c", path=Path("c.wav"), turns=turns)
    output = speech(
        ("s1", 0.0, 10.0), ("s2", 10.0, 20.0), ("s1", 20.0, 30.0), ("unknown", 30.0, 40.0), ("s3", 40.0, 50.0)
    )
    found = accuracy(recording, output, 50.0)
    assert found.strict.rate == pytest.approx(0.4)
    assert not found.has_words
    assert found.word_errors == Count(errors=100, of=250)
    assert found.label_changes == Count(errors=1, of=1)
    assert found.speakers == 3


def test_without_the_extra_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    for find_spec in (nothing, lambda name: None):
        monkeypatch.setattr(scoring.importlib.util, "find_spec", find_spec)
        with pytest.raises(NotReadyError, match=r"extra `diarization`.*`make setup-full`"):
            check_metrics()
