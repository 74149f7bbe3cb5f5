"""Features without trained weights, for signals of any kind: values at several scales, and random convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unistep.evaluation.conv_trunk import in_rows
from unistep.evaluation.features import StagedNetwork

_Function = Callable[..., Tensor]
GRIDS: tuple[_Function, ...] = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
"""Means over a grid of places, by the number of axes less one."""
MAPS: dict[int, tuple[_Function, _Function, _Function]] = {
    2: (F.conv2d, F.avg_pool2d, F.adaptive_avg_pool2d),
    3: (F.conv3d, F.avg_pool3d, F.adaptive_avg_pool3d),
}


def directions(size: int, dim: int, seed: int) -> Float[Tensor, "size kept"]:
    """Fixed random orthonormal directions, ``dim`` of them or as many as there are."""
    random = torch.randn(size, min(dim, size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(random).Q.float()


@final
class ScaleFeatures(nn.Module):
    """A signal's means over a coarse, a middle and a fine grid, and its values, each on fixed random directions.

    Args:
        shape: Shape of one signal, channels first, with one to three axes of space or time.
        dim: Largest number of features of each scale.
    """

    def __init__(self, shape: tuple[int, ...], dim: int = 96) -> None:
        super().__init__()
        self._dims = len(shape) - 1
        self._grids = [tuple(max(1, size // part) for size in shape[1:]) for part in (8, 4, 2)]
        sizes = [shape[0] * math.prod(grid) for grid in self._grids] + [math.prod(shape)]
        for i, size in enumerate(sizes):
            self.register_buffer(f"directions_{i}", directions(size, dim, seed=i), persistent=False)

    def forward(self, signals: Float[Tensor, "b *shape"]) -> Float[Tensor, "b dim"]:
        """Features of signals in [-1, 1]."""
        x = signals.float()
        scales = [GRIDS[self._dims - 1](x, grid) for grid in self._grids]
        # A mean of n values varies less than a value: each scale counts as much as its variance does.
        found = [v.flatten(1) @ self.get_buffer(f"directions_{i}") for i, v in enumerate([*scales, x])]
        return torch.cat(found, dim=1)


@final
class RandomConvolutions(StagedNetwork):
    """Layers of random convolutions, each averaged over a grid of places and on fixed random directions.

    Random filters respond to any texture, the averages over places keep where it is, and there is no training set that
    they could know better than others.

    Args:
        feature_map: Makes maps ``[b, c, *places]`` of two or three axes of signals, such as levels of bands over time
            of sounds; filters run over all of them.
        shape: Shape of one signal.
        channels: Channels of each layer, after which the resolution is halved.
        dim: Largest number of features of each layer.
        seed: Seed of the filters and directions.

    References:
        Saxe et al. 2011, "On random weights and unsupervised feature learning", section 2.
    """

    def __init__(
        self,
        feature_map: nn.Module,
        shape: tuple[int, ...],
        channels: tuple[int, ...] = (24, 48, 96),
        dim: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.feature_map, self._layers = feature_map, len(channels)
        _, last, *sizes = feature_map(torch.zeros(1, *shape)).shape
        generator = torch.Generator().manual_seed(seed)
        self.axes = len(sizes)
        """Axes that the filters run over."""
        self._convolve, self._halve, self._means = MAPS[len(sizes)]
        self._grids: list[tuple[int, ...]] = []
        for i, width in enumerate(channels):
            filters = torch.randn(width, last, *(3 for _ in sizes), generator=generator)
            # Zero mean, so that a layer sees changes rather than levels; variance kept through the rectifier.
            filters = filters - filters.flatten(2).mean(dim=2).view(width, last, *(1 for _ in sizes))
            self.register_buffer(f"filters_{i}", filters * (2 / filters[0].numel()) ** 0.5, persistent=False)
            self._grids.append(tuple(min(size, 4) for size in sizes))
            size = width * math.prod(self._grids[-1])
            self.register_buffer(f"directions_{i}", directions(size, dim, seed=seed + 1 + i), persistent=False)
            last, sizes = width, [max(1, size // 2) for size in sizes]

    def stages(self, signals: Float[Tensor, "b *shape"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The maps that leave the layers, their times one below the other."""
        return [in_rows(x) for x in self._layered(signals)]

    def _layered(self, signals: Float[Tensor, "b *shape"]) -> list[Float[Tensor, "b c *places"]]:
        x, found = self.feature_map(signals.float()), []
        for i in range(self._layers):
            if i:
                x = self._halve(x, [2 if size > 1 else 1 for size in x.shape[2:]])
            x = F.relu(self._convolve(x, self.get_buffer(f"filters_{i}"), padding=1))
            found.append(x)
        return found

    def forward(self, signals: Float[Tensor, "b *shape"]) -> Float[Tensor, "b dim"]:
        """Features of signals in [-1, 1]."""
        means = (self._means(x, grid).flatten(1) for x, grid in zip(self._layered(signals), self._grids, strict=True))
        return torch.cat([x @ self.get_buffer(f"directions_{i}") for i, x in enumerate(means)], dim=1)
