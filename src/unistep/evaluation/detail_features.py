"""Features of texture without trained weights: how strong a signal's details of each size are, and where."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unistep.evaluation.fixed_features import MAPS, directions


@final
class DetailFeatures(nn.Module):
    r"""Strengths of the details of each octave, light and dark apart, averaged over a grid of places.

    A signal is split into a Laplacian pyramid, :math:`d_i = x_i - \bar x_i` and :math:`x_{i+1}` every second value of
    the local mean :math:`\bar x_i`. The features are the means of :math:`2^{n-1-i} \max(\pm d_i, 0)` over a grid, on
    fixed random directions for each octave. The factor makes up for how weak small details are in natural signals,
    where means of values hardly tell a sharp signal from a soft one.

    Args:
        feature_map: Makes maps ``[b, c, *places]`` of two or three axes of signals.
        shape: Shape of one signal.
        octaves: Sizes of details, from two neighbours on.
        dim: Largest number of features of each octave.

    References:
        Burt & Adelson 1983, "The Laplacian pyramid as a compact image code", section II.
    """

    def __init__(self, feature_map: nn.Module, shape: tuple[int, ...], octaves: int = 3, dim: int = 64) -> None:
        super().__init__()
        self.feature_map, self._octaves = feature_map, octaves
        _, channels, *sizes = feature_map(torch.zeros(1, *shape)).shape
        _, self._halve, self._means = MAPS[len(sizes)]
        self._grids: list[tuple[int, ...]] = []
        for i in range(octaves):
            self._grids.append(tuple(min(size, 4) for size in sizes))
            size = 2 * channels * math.prod(self._grids[-1])
            self.register_buffer(f"directions_{i}", directions(size, dim, seed=i), persistent=False)
            sizes = [max(1, size // 2) for size in sizes]

    def forward(self, signals: Float[Tensor, "b *shape"]) -> Float[Tensor, "b dim"]:
        """Features of signals in [-1, 1]."""
        x, found = self.feature_map(signals.float()), list[Tensor]()
        for i in range(self._octaves):
            sizes = x.shape[2:]
            window = [3 if size > 1 else 1 for size in sizes]
            edges = [side // 2 for side in reversed(window) for _ in (0, 1)]
            mean = self._halve(F.pad(x, edges, mode="replicate"), window, stride=1)
            detail = 2.0 ** (self._octaves - 1 - i) * (x - mean)
            parts = torch.cat([F.relu(detail), F.relu(-detail)], dim=1)
            found.append(self._means(parts, self._grids[i]).flatten(1) @ self.get_buffer(f"directions_{i}"))
            x = self._halve(mean, [2 if size > 1 else 1 for size in sizes])
        return torch.cat(found, dim=1)
