"""Features of sensor windows: statistics of each channel, and how channels go together. Nothing in them is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from unistep.evaluation.features import FeatureNetwork
    from unistep.modalities.base import Modality

BANDS = 6
"""Frequency bands of each channel."""


class Statistics(nn.Module):
    """Mean, deviation and levels of frequency bands of each channel, and the correlations between channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[b, dim]`` of windows ``[b, channels, rows]``."""
        mean, deviation = x.mean(dim=-1), x.std(dim=-1, correction=0)
        power = torch.fft.rfft(x - mean[..., None], dim=-1).abs().square()[..., 1:] / x.shape[-1]
        bands = torch.stack([part.mean(dim=-1) for part in power.tensor_split(min(BANDS, power.shape[-1]), dim=-1)], -1)
        normal = (x - mean[..., None]) / (deviation[..., None] + 1e-3)
        together = normal @ normal.transpose(1, 2) / x.shape[-1]
        upper = torch.triu_indices(x.shape[1], x.shape[1], offset=1)
        pairs = together[:, upper[0], upper[1]]
        return torch.cat([mean, deviation, (bands + 1e-4).log().flatten(1) / 4, pairs], dim=1)


def load_statistics(rest: str, modality: Modality) -> FeatureNetwork:
    """The features for windows of one shape, as ``--features sensor-statistics``."""
    from unistep.evaluation.features import FeatureNetwork

    del rest
    return FeatureNetwork(Statistics(), name="sensor-statistics", version="1", shape=modality.shape)
