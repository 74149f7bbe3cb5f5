"""Small convolutional trunks, of which the learned feature networks are made."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn


@final
class ConvNorm(nn.Module):
    """A 3x3 convolution with batch normalisation; with stride 1 its input is added.

    Args:
        c_in: Channels of the input.
        c_out: Channels of the output.
        stride: 1, or 2 to halve the resolution.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.silu(self.norm(self.conv(x)))
        return x + y if self.residual else y


@final
class ConvTrunk(nn.Sequential):
    """Stages of two convolutions, the first of which halves the resolution.

    Args:
        in_channels: Channels of the input.
        height: Its rows.
        width: Its columns.
        channels: Width of each stage.
    """

    def __init__(self, in_channels: int, height: int, width: int, channels: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for wide in channels:
            # Stride and not pooling: half the arithmetic at the highest resolution, which is most of it.
            layers += [ConvNorm(in_channels, wide, stride=2), ConvNorm(wide, wide, stride=1)]
            in_channels, height, width = wide, (height + 1) // 2, (width + 1) // 2
        super().__init__(*layers)
        self.size = in_channels * height * width
        """Values that leave the last stage for each item."""

    def stages(self, x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The map that leaves each stage, from fine to coarse."""
        found = []
        for i, layer in enumerate(self):
            x = layer(x)
            if i % 2:
                found.append(x)
        return found
