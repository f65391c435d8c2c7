"""What a head is compared with: one speaker wherever it is loud."""

from __future__ import annotations

import torch

from pipeline.diarize.encoder import BANDS
from pipeline.diarize.segmentation import SETS

LOUD_QUANTILE, QUIETEST_DB = 0.9, -25.0  # frames that far below a window's loud ones are silent
SURE = 20.0


class OneSpeaker(torch.nn.Module):
    """Takes what `pipeline.diarize.segmentation.SegmentationHead` takes and returns what it returns: the first speaker, or nobody."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return log probabilities of `SETS`, all but certain."""
        power = torch.exp((features[..., :BANDS] - 1.5) * 4).sum(dim=2)
        loud = torch.quantile(power, LOUD_QUANTILE, dim=1, keepdim=True)
        speaks = power > loud * 10 ** (QUIETEST_DB / 10)
        scores = torch.zeros(*features.shape[:2], len(SETS))
        scores[..., SETS.index((0,))] = torch.where(speaks, SURE, -SURE)
        return torch.log_softmax(scores - SURE * torch.tensor([0.0, 0.0, *[2.0] * (len(SETS) - 2)]), dim=-1)
