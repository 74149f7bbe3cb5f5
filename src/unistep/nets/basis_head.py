"""A last layer of learned functions of position, weighted by the condition, for signals that it almost determines."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from unistep.nets.blocks import channels_first, conv
from unistep.nets.embedding import LearnedPositionEmbedding


class ConditionedBasisHead(nn.Module):
    r"""A wide last layer in which position and condition multiply.

    .. math:: y_p = U\, \mathrm{silu}\big(V_p \odot (1 + A e) + B e + C h_p\big)

    with :math:`h_p` the features of the network at position :math:`p`, :math:`e` the embedding of times and condition,
    and :math:`V_p` learned. A partial of a note is a sine in time whose frequency follows from the pitch: a product of
    pitch and position. Notes have more such products than a network of a few hundred channels can hold. :math:`U` and
    :math:`C` start at zero, so that the layer begins without effect.

    Args:
        dims: Number of spatial dimensions.
        width: Channels in.
        functions: Number of functions of position.
        out: Channels out.
        embedding_dim: Features of the embedding.
        sizes: Spatial sizes.
    """

    def __init__(
        self, dims: int, width: int, functions: int, out: int, embedding_dim: int, sizes: Sequence[int]
    ) -> None:
        super().__init__()
        self.positions = LearnedPositionEmbedding(functions, sizes)
        self.modulation = nn.Linear(embedding_dim, 2 * functions)
        self.inner = conv(dims, width, functions, kernel=1)
        self.outer = conv(dims, functions, out, kernel=1)
        for layer in (self.inner, self.outer):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Run the layer on features ``[b, width, *sizes]``; returns ``[b, out, *sizes]``.

        Args:
            h: Features of the network.
            embedding: Shape ``[b, embedding_dim]``, or ``[b, *n, embedding_dim]`` with ``n`` the spatial sizes or 1.
        """
        scale, shift = channels_first(self.modulation(embedding), h.ndim - 2).chunk(2, dim=1)
        table = self.positions.table.to(h)
        return self.outer(F.silu(table * (1 + scale) + shift + self.inner(h)))
