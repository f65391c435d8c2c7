from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.bench.diarization.recordings import recordings, unreferenced
from pipeline.core.errors import UsageError
from pipeline.core.rttm import SpeakerTurn, write_rttm


def audio(folder: Path, name: str) -> Path:
    path = folder / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(8000), 8000)
    return path


def reference(path: Path, *turns: tuple[str, str, float, float]) -> None:
    path.write_text(
        write_rttm(
            SpeakerTurn(file=file, start_seconds=start, duration_seconds=end - start, speaker=speaker)
            for file, speaker, start, end in turns
        )
    )


def test_a_reference_beside_its_recording(tmp_path: Path) -> None:
    audio(tmp_path, "sub/talk-01")
    reference(tmp_path / "sub/talk-01.rttm", ("talk", "A", 0.0, 1.0), ("talk", "B", 0.5, 1.5), ("talk", "A", 1.0, 2.0))
    (found,) = recordings(tmp_path)
    assert (found.name, found.group, found.words) == ("sub/talk-01", "sub/talk", ())
    assert found.speech == {"A": ((0.0, 2.0),), "B": ((0.5, 1.5),)}


def test_one_rttm_may_be_of_several_recordings_by_file_id(tmp_path: Path) -> None:
    paths = [audio(tmp_path, name) for name in ("a", "sub/b", "c")]
    reference(tmp_path / "all.rttm", ("a", "A", 0.0, 1.0), ("b", "B", 0.0, 1.0), ("other", "C", 0.0, 1.0))
    found = recordings(tmp_path)
    assert [(each.name, list(each.speech)) for each in found] == [("a", ["A"]), ("sub/b", ["B"])]
    assert unreferenced(tmp_path, found) == (paths[2],)


def test_a_reference_without_speech_is_one(tmp_path: Path) -> None:
    audio(tmp_path, "silence")
    reference(tmp_path / "silence.rttm")
    assert recordings(tmp_path)[0].speech == {}


def test_words_of_an_utterance_last_as_long_as_they_have_letters(tmp_path: Path) -> None:
    audio(tmp_path, "a")
    reference(tmp_path / "a.rttm", ("a", "A", 0.0, 1.0))
    spoken: list[dict[str, Any]] = [
        {"speaker": "A", "text": "a bcd", "start_seconds": 1.0, "end_seconds": 3.0},
        {"text": "nobody knows who", "start_seconds": 1.0, "end_seconds": 3.0},
        {"speaker": "A", "text": "nobody knows when"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"utterances": spoken}))
    words = recordings(tmp_path)[0].words
    assert [(word.speaker, word.start_seconds, word.end_seconds) for word in words] == [
        ("A", 1.0, 1.5),
        ("A", 1.5, 3.0),
    ]


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        recordings(tmp_path / "none")
    path = audio(tmp_path, "a")
    with pytest.raises(UsageError, match="holds no recording with a reference"):
        recordings(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        recordings(path)
    reference(tmp_path / "a.rttm", ("b", "A", 0.0, 1.0), ("c", "A", 0.0, 1.0))
    with pytest.raises(UsageError, match=r"a\.rttm: is of several files, none of them a"):
        recordings(tmp_path)
    (tmp_path / "a.rttm").write_text("SPEAKER a 1 0.0\n")
    with pytest.raises(UsageError, match=r"a\.rttm:1: has 4 fields"):
        recordings(tmp_path)
    (tmp_path / "a.rttm").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="is not UTF-8"):
        recordings(tmp_path)
    reference(tmp_path / "a.rttm", ("a", "A", 0.0, 1.0))
    (tmp_path / "a.json").write_text('{"utterances": [{"text": 1}]}')
    with pytest.raises(UsageError, match=r"a\.json: utterances\.0\.text"):
        recordings(tmp_path)


def test_two_references_or_two_recordings_of_one_name_are_refused(tmp_path: Path) -> None:
    audio(tmp_path, "a")
    reference(tmp_path / "one.rttm", ("a", "A", 0.0, 1.0))
    reference(tmp_path / "two.rttm", ("a", "A", 0.0, 1.0))
    with pytest.raises(UsageError, match=r"several references \(one\.rttm, two\.rttm\)"):
        recordings(tmp_path)
    soundfile.write(tmp_path / "a.flac", np.zeros(8000), 8000)
    with pytest.raises(UsageError, match="has the same name"):
        recordings(tmp_path)
