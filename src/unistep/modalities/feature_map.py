"""Signals of any shape as maps with rows and columns, or with times too, which convolutions take."""

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
class InTimeAndSpace(nn.Module):
    """Videos as they are: convolutions run over frames, rows and columns, and see how things move."""

    def forward(self, x: Float[Tensor, "b c frames h w"]) -> Float[Tensor, "b c frames h w"]:
        """The videos."""
        return x
