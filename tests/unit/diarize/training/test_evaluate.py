"""What is measured of a head: examples, recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")
pytest.importorskip("torchaudio")

from pipeline.core.errors import InputError, NotReadyError, UsageError  # noqa: E402 - behind the check for torch
from pipeline.diarize.card import ENCODER, FOLDER  # noqa: E402
from pipeline.diarize.segmentation import TOGETHER, SegmentationHead, members  # noqa: E402
from pipeline.diarize.training.baseline import OneSpeaker  # noqa: E402
from pipeline.diarize.training.evaluate import (  # noqa: E402
    compared,
    document_of,
    errors_in_recordings,
    errors_of,
    frames_of,
    load_head,
    table,
    write_evaluation,
)
from pipeline.diarize.training.examples import Shard  # noqa: E402

pytestmark = [pytest.mark.diarization, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def head() -> Any:
    """Return a head that hears the second speaker, whatever it is given."""
    head = SegmentationHead().eval()
    with torch.no_grad():
        head.out.weight.zero_()
        head.out.bias.copy_(torch.tensor([0.0, 0, 9, 0, 0, 0, 0] * TOGETHER))
    return head


def test_examples(head: Any, shards: list[Shard], tmp_path: Path) -> None:
    document = document_of(head, {"validation": shards})
    row = document["validation"]
    assert row["speech_frames"] == shards[0].active.sum()
    silent = (~shards[0].active.any(axis=2)).sum()
    assert row["false_alarm"] == pytest.approx(silent / row["speech_frames"], abs=1e-4)
    assert row["error"] == pytest.approx(row["missed"] + row["false_alarm"] + row["confusion"], abs=2e-4)
    write_evaluation(document, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == document
    assert f"{row['error']:.1%} |" in (tmp_path / "evaluation.md").read_text()


def test_recordings(head: Any, tmp_path: Path) -> None:
    """Ten seconds are heard of seven; 250 frames of speech are spoken in 200, and the turn to the other speaker is in the first window."""
    soundfile.write(tmp_path / "call.wav", np.zeros((8_000 * 7, 2), dtype=np.int16), 8_000)
    soundfile.write(tmp_path / "unlabelled.wav", np.zeros(8_000, dtype=np.int16), 8_000)
    (tmp_path / "call.rttm").write_text(
        ";; a comment\nSPEAKER call 1 1.0 3.0 <NA> <NA> ann <NA> <NA>\nSPEAKER call 1 3.0 2.0 <NA> <NA> bob <NA> <NA>\n"
    )
    found = errors_in_recordings(head, FOLDER / ENCODER, tmp_path, hop_seconds=5.0)
    assert list(found) == ["call"]
    call = found["call"]
    assert (call.missed, call.false_alarm, call.confusion, call.speech) == (50, 300, 50, 250)
    call = errors_in_recordings(head, FOLDER / ENCODER, tmp_path, hop_seconds=5.0, collar_seconds=0.2)["call"]
    assert (call.missed, call.false_alarm, call.confusion, call.speech) == (30, 290, 40, 180)
    assert errors_in_recordings(head, FOLDER / ENCODER, tmp_path)["call"].speech > 400  # windows overlap


def test_recordings_that_cannot_be_used(head: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recording"):
        errors_in_recordings(head, FOLDER / ENCODER, tmp_path)
    with pytest.raises(InputError, match=r"call\.rttm:2: not a SPEAKER line"):
        frames_of("LEXEME\nSPEAKER call 1 x\n", 10, name="call.rttm")
    (tmp_path / "call.rttm").touch()
    (tmp_path / "call.wav").write_bytes(b"no sound")
    with pytest.raises(InputError, match=r"call\.wav: cannot be read"):
        errors_in_recordings(head, FOLDER / ENCODER, tmp_path)


def test_energy_alone_hears_one_speaker_where_it_is_loud() -> None:
    features = torch.full((1, 40, 552), -1.0)
    features[:, 10:30, :40] = 1.0
    scores = OneSpeaker()(features).exp()
    assert scores.sum(dim=2).tolist()[0] == pytest.approx([1.0] * 40)
    heard = scores @ members()
    assert heard[0, :, 0].round().tolist() == [0.0] * 10 + [1.0] * 20 + [0.0] * 10
    assert not heard[0, :, 1:].round().any()


def test_comparison_has_every_row(head: Any, shards: list[Shard]) -> None:
    document = compared(lambda one, collar: {"set": errors_of(one, shards, collar_seconds=collar)}, head)
    assert list(document) == [
        "set",
        "set, by energy alone",
        "set, by energy alone, collar 0.25 s",
        "set, collar 0.25 s",
    ]
    assert document["set, collar 0.25 s"]["speech_frames"] < document["set"]["speech_frames"]


def test_nobody_speaks(head: Any, shards: list[Shard]) -> None:
    quiet = [Shard(features=shards[0].features, active=np.zeros_like(shards[0].active))]
    assert table(document_of(head, {"quiet": quiet})).endswith("| quiet | 0 s | - | - | - | - |")


def test_what_is_no_head_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="train first"):
        load_head(tmp_path / "segmentation.pt")
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(UsageError, match="no segmentation head"):
        load_head(tmp_path / "other.pt")
