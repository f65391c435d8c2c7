"""The checkpoint for pyannote.audio loads there, and says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pyannote.audio")

from pipeline.diarize.card import ENCODER, FOLDER  # noqa: E402 - behind the check for torch
from pipeline.diarize.encoder import SpeakerEncoder  # noqa: E402
from pipeline.diarize.engine import CHECKPOINT_TYPES  # noqa: E402
from pipeline.diarize.segmentation import Segmentation, SegmentationHead, members  # noqa: E402
from pipeline.diarize.training.pyannote import export  # noqa: E402

pytestmark = [pytest.mark.diarization, pytest.mark.usefixtures("one_thread")]


@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_exported_model_says_the_same(tmp_path: Path) -> None:
    from pyannote.audio import Model
    from pyannote.audio.utils.powerset import Powerset

    torch.manual_seed(1)
    head = SegmentationHead().eval()
    for weights in head.parameters():
        weights.data = weights.data.half().float()
    export(head, FOLDER / ENCODER, tmp_path / "segmentation.bin")
    assert (tmp_path / "segmentation.bin").stat().st_size < 4_000_000
    with torch.serialization.safe_globals(CHECKPOINT_TYPES):
        model = Model.from_pretrained(tmp_path / "segmentation.bin").eval()
    waveforms = torch.randn(2, 1, 80_000) * 0.05
    with torch.inference_mode():
        said, wanted = model(waveforms), Segmentation(SpeakerEncoder.load(FOLDER / ENCODER), head).eval()(waveforms)
    assert said.shape == (2, 250, 7)
    torch.testing.assert_close(said.exp() @ members(), wanted, atol=1e-4, rtol=0)
    assert torch.equal(Powerset(3, 2).mapping, members())
    assert model.num_frames(80_000) == 250
    assert (model.specifications.powerset, model.specifications.duration, model.dimension) == (True, 5.0, 7)
    assert model.receptive_field.step == pytest.approx(0.02)
