"""Residual blocks at a signal's own resolution, after a network that works on patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unistep.nets.blocks import ResidualBlock, conv, depth_to_space, group_norm


class FullResolutionHead(nn.Module):
    r"""A correction of a network's output by neighbours at full resolution.

    .. math:: y = o + W_2\, R_n(\dots R_1(W_1 [x, o] + U h))

    with :math:`x` the input and :math:`o` the output of the network at full resolution, :math:`h` its last features,
    unfolded by :math:`U`, and :math:`R_i` residual blocks that know times and conditions. A layer that maps each patch
    to its values sees the noise of all of them at once and has few channels for it, so that fine details come out
    little better than by a linear filter; a few convolutions that slide over single positions do more for less.
    :math:`W_2` starts at zero, so that the head begins without effect.

    Args:
        dims: Number of spatial dimensions.
        channels: Channels of the signal.
        features: Channels of the network's last features.
        width: Channels of the blocks.
        blocks: Number of blocks.
        patch: Positions of the signal to one of the features, along each axis.
        embedding_dim: Features of the embedding.
        dropout: Dropout probability inside the blocks.
        double_norm: Whether the blocks normalise scale and shift.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        features: int,
        *,
        width: int,
        blocks: int,
        patch: int,
        embedding_dim: int,
        dropout: float = 0.0,
        double_norm: bool = False,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.input = conv(dims, 2 * channels, width)
        self.unfold = conv(dims, features, width * patch**dims, kernel=1)
        self.blocks = nn.ModuleList(
            ResidualBlock(dims, width, width, embedding_dim, dropout, double_norm) for _ in range(blocks)
        )
        self.norm = group_norm(width)
        self.output = conv(dims, width, channels)
        nn.init.zeros_(self.output.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, out: Tensor, h: Tensor, embedding: Tensor) -> Tensor:
        """The corrected output ``[b, channels, *n]``.

        Args:
            x: Input of the network ``[b, channels, *n]``.
            out: Its output, of the same shape.
            h: Its last features ``[b, features, *(n / patch)]``.
            embedding: Shape ``[b, embedding_dim]``, or ``[b, *n, embedding_dim]`` with ``n`` the spatial sizes or 1.
        """
        y = self.input(torch.cat([x.to(out), out], dim=1)) + depth_to_space(self.unfold(h), self.patch)
        for block in self.blocks:
            y = block(y, embedding)
        return out + self.output(F.silu(self.norm(y)))
