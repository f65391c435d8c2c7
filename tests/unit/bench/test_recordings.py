from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.bench.recordings import CALLS, Utterance, recordings, unreferenced
from pipeline.core.errors import UsageError

SECRET = "parsnip"


def record(folder: Path, name: str = "call.wav", *, channels: int = 2) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros((800, channels), dtype=np.int16), 8000)
    return path


def utterance(channel: int = 0, text: str = "One two.", **times: float | None) -> dict[str, Any]:
    return {"channel": channel, "text": text, **times}


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_shipped_calls_come_by_name_with_every_channel_referenced() -> None:
    found = recordings()
    names = [recording.name for recording in found]
    assert names == sorted(path.stem for path in CALLS.glob("*.flac"))
    assert unreferenced(CALLS) == ()
    for recording in found:
        assert recording.kind == recording.name.partition("-")[0]
        assert recording.roles == {0: "agent", 1: "customer"}
        assert set(recording.references) == {0, 1}
        assert recording.words == json.loads(recording.path.with_suffix(".json").read_text())["words"]


def test_json_reference_is_read_by_channel_in_spoken_order(tmp_path: Path) -> None:
    path = record(tmp_path)
    document = {
        "kind": "hard",
        "channels": [{"channel": 1, "role": "agent"}, {"channel": 0, "role": "customer"}],
        "utterances": [
            utterance(0, "Third.", start_seconds=3, end_seconds=3.5),
            utterance(1, "Second, it's so."),
            utterance(0, "First.", start_seconds=0.5, end_seconds=None),
            utterance(1, "Another.", start_seconds=0.1, end_seconds=1.0),
        ],
        "seed": 3,
    }
    write(tmp_path, "call.json", document)

    (recording,) = recordings(tmp_path)

    assert (recording.name, recording.path, recording.kind) == ("call", path, "hard")
    assert recording.roles == {0: "customer", 1: "agent"}
    assert recording.references[0] == (
        Utterance(start_seconds=0.5, end_seconds=None, text="First."),
        Utterance(start_seconds=3.0, end_seconds=3.5, text="Third."),
    )
    assert recording.text(0) == "First. Third."
    assert recording.text(1) == "Second, it's so. Another."  # one of them tells no time: as they stand
    assert recording.words == 6


def test_listed_channel_is_silent_and_unlisted_one_has_no_reference(tmp_path: Path) -> None:
    record(tmp_path, channels=3)
    write(
        tmp_path,
        "call.json",
        {"channels": [{"channel": 2, "role": "observer"}], "utterances": [utterance(0, "Hello.")]},
    )

    (recording,) = recordings(tmp_path)

    assert recording.roles == {0: "channel1", 1: "channel2", 2: "observer"}
    assert set(recording.references) == {0, 2}
    assert recording.text(2) == ""
    with pytest.raises(KeyError):
        recording.text(1)


def test_one_text_for_a_recording_of_one_channel(tmp_path: Path) -> None:
    record(tmp_path, channels=1)
    write(tmp_path, "call.txt", "\ufeffOne two\n  three.\n")

    (recording,) = recordings(tmp_path)

    assert (recording.kind, recording.roles) == ("", {0: "mixed"})
    assert recording.references == {0: (Utterance(start_seconds=None, end_seconds=None, text="One two three."),)}


def test_texts_by_channel_and_an_empty_one_is_silence(tmp_path: Path) -> None:
    record(tmp_path)
    write(tmp_path, "call.0.txt", "One two.")
    write(tmp_path, "call.1.txt", " \n")

    (recording,) = recordings(tmp_path)

    assert (recording.text(0), recording.references[1], recording.words) == ("One two.", (), 2)


def test_any_container_below_the_folder_is_found_and_what_has_no_reference_is_told(tmp_path: Path) -> None:
    for name in ("late.flac", "early.OGG", "deep/er/call.wav", "bare.wav", "deep/bare.aiff"):
        record(tmp_path, name, channels=1)
    for name in ("late.txt", "early.json", "deep/er/call.0.txt", "stray.json", "bare.agent.txt", "deep/bare.00.txt"):
        write(tmp_path, name, {"utterances": [utterance()]} if name.endswith("json") else "One two.")

    assert [recording.name for recording in recordings(tmp_path)] == ["deep/er/call", "early", "late"]
    assert unreferenced(tmp_path) == (tmp_path / "bare.wav", tmp_path / "deep" / "bare.aiff")


def test_text_goes_to_the_recording_that_has_its_whole_name(tmp_path: Path) -> None:
    for name in ("call.wav", "call.1.wav"):
        record(tmp_path, name, channels=1)
    write(tmp_path, "call.1.txt", "One.")
    write(tmp_path, "call.0.txt", "Zero.")

    assert {recording.name: recording.text(0) for recording in recordings(tmp_path)} == {
        "call": "Zero.",
        "call.1": "One.",
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Invalid JSON"),
        ("", "Invalid JSON"),
        ([1], "object"),
        ({}, "utterances: Field required"),
        ({"utterances": [utterance(), {"channel": 0}]}, r"utterances\.1\.text: Field required"),
        ({"utterances": [{"text": SECRET}]}, r"utterances\.0\.channel: Field required"),
        ({"utterances": [utterance(text=7)]}, r"utterances\.0\.text: .*string"),  # type: ignore[arg-type]
        ({"utterances": [{"channel": SECRET, "text": SECRET}]}, r"utterances\.0\.channel: .*integer"),
        ({"utterances": [utterance(-1)]}, r"utterances\.0\.channel: .*greater than or equal to 0"),
        ({"utterances": [utterance(start_seconds=-0.1)]}, r"utterances\.0\.start_seconds"),
        ({"utterances": [utterance(start_seconds=float("nan"))]}, r"utterances\.0\.start_seconds: .*finite"),
        (
            {"utterances": [utterance(text=SECRET, start_seconds=2, end_seconds=2)]},
            r"utterances\.0: end_seconds is not after start_seconds",
        ),
        ({"utterances": [], "channels": [{"channel": 0}]}, r"channels\.0\.role: Field required"),
        ({"utterances": [], "kind": SECRET}, "kind: "),
        ({"utterances": [utterance(2)]}, "is for channel 2; call.wav has 2"),
        ({"utterances": [], "channels": [{"channel": 9, "role": "agent"}]}, "is for channel 9; call.wav has 2"),
    ],
)
def test_wrong_json_is_refused_by_name_without_its_words(tmp_path: Path, content: Any, reason: str) -> None:
    record(tmp_path)
    reference = write(tmp_path, "call.json", content)
    with pytest.raises(UsageError, match=reason) as caught:
        recordings(tmp_path)
    assert str(reference) in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "named", "reason"),
    [
        (("call.txt",), "call.txt", r"call\.wav has 2 channels; name each: call\.0\.txt"),
        (("call.2.txt",), "call.2.txt", r"is for channel 2; call\.wav has 2"),
        (("call.0.txt", "call.10.txt"), "call.10.txt", r"is for channel 10; call\.wav has 2"),
        (("call.txt", "call.0.txt"), "call.wav", r"several references \(call\.0\.txt, call\.txt\)"),
        (("call.json", "call.0.txt"), "call.wav", r"several references \(call\.0\.txt, call\.json\)"),
        ((), "", "holds no recording with a reference"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, files: tuple[str, ...], named: str, reason: str
) -> None:
    record(tmp_path)
    for file in files:
        write(tmp_path, file, "One two.")
    with pytest.raises(UsageError, match=reason) as caught:
        recordings(tmp_path)
    assert str(tmp_path / named) in str(caught.value)


def test_two_recordings_of_one_name_are_refused(tmp_path: Path) -> None:
    record(tmp_path, "call.wav")
    record(tmp_path, "call.flac")
    with pytest.raises(UsageError, match=r"call\.flac: call\.wav has the same name"):
        recordings(tmp_path)


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    record(tmp_path, channels=1)
    (tmp_path / "call.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"call\.txt: is not UTF-8"):
        recordings(tmp_path)


def test_folder_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: does not exist"):
        recordings(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"call\.wav: is not a folder"):
        unreferenced(record(tmp_path))
