"""Small convolutional trunks over space, or over time and space, of which the learned feature networks are made."""

from __future__ import annotations

import math
from typing import TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
"""Convolutions by the number of axes that they run over."""
NORMS: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
"""Normalisations over a batch, in the same way."""


def channels_last(network: Module) -> Module:
    """The network with its kernels laid out as a CPU is fastest with, about half as fast again."""
    for parameter in network.parameters():
        if parameter.ndim in (4, 5):
            layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.to(memory_format=layout)
    return network


def in_rows(x: Float[Tensor, "b c *places"]) -> Float[Tensor, "b c h w"]:
    """Maps with their times, where they have any, one below the other."""
    return x.flatten(2, -2)


@final
class ConvNorm(nn.Module):
    """A convolution of side 3 with batch normalisation; with stride 1 its input is added.

    Args:
        c_in: Channels of the input.
        c_out: Channels of the output.
        stride: 1, or 2 to halve the resolution.
        axes: Axes of the input behind the channels: 2 or 3.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int, axes: int = 2) -> None:
        super().__init__()
        self.conv = CONVOLUTIONS[axes](c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.norm = NORMS[axes](c_out)
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.silu(self.norm(self.conv(x)))
        return x + y if self.residual else y


@final
class ConvTrunk(nn.Sequential):
    """Stages of two convolutions, the first of which halves the resolution.

    Args:
        in_channels: Channels of the input.
        sizes: Its rows and columns; of videos frames, rows and columns.
        channels: Width of each stage.
    """

    def __init__(self, in_channels: int, sizes: tuple[int, ...], channels: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for wide in channels:
            # Stride and not pooling: half the arithmetic at the highest resolution, which is most of it.
            axes = len(sizes)
            layers += [ConvNorm(in_channels, wide, stride=2, axes=axes), ConvNorm(wide, wide, stride=1, axes=axes)]
            in_channels, sizes = wide, tuple((size + 1) // 2 for size in sizes)
        super().__init__(*layers)
        self.size = in_channels * math.prod(sizes)
        """Values that leave the last stage for each item."""

    def stages(self, x: Float[Tensor, "b c *places"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The map that leaves each stage, from fine to coarse, its times one below the other."""
        found = []
        for i, layer in enumerate(self):
            x = layer(x)
            if i % 2:
                found.append(in_rows(x))
        return found
