"""Signals of any shape as maps with rows and columns, which two-dimensional convolutions take."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn


@final
class AsMap(nn.Module):
    """The values themselves: the first axis as channels, the last as columns, all between them as rows."""

    def forward(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b c h w"]:
        """Maps; a signal of one axis is one row of one channel."""
        channels = x.shape[1] if x.ndim > 2 else 1
        return x.reshape(len(x), channels, -1, x.shape[-1])


@final
class MomentsAsChannels(nn.Module):
    """The frames of videos as channels: a convolution sees what is at its places in all of them."""

    def forward(self, x: Float[Tensor, "b c frames h w"]) -> Float[Tensor, "b cf h w"]:
        """Maps of as many channels as the frames have together."""
        return x.flatten(1, 2)
