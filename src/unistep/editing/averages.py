"""Averages over neighbouring values and over colours: what small and grey images are of large coloured ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

LUMA = (0.2989, 0.5870, 0.1140)
"""Weights of red, green and blue in the brightness of a colour (ITU-R BT.601)."""
ROUNDS = 4
"""Corrections by straight lines."""


@final
class BlockAverage:
    r"""Each value of a coarser grid is the mean of a block of values; :math:`A^\dagger` repeats it over the block.

    The ``n`` values along an axis become ``m`` blocks of nearly equal length, value ``i`` in block
    :math:`\lfloor i m / n \rfloor`, so that any factor is possible.

    Args:
        axes: Axes of a batch of signals.
        fine: Sizes along these axes.
        coarse: Numbers of blocks along them.

    Raises:
        ValueError: If there are more blocks than values along an axis, or none.
    """

    def __init__(self, axes: Sequence[int], fine: Sequence[int], coarse: Sequence[int]) -> None:
        for n, m in zip(fine, coarse, strict=True):
            if not 1 <= m <= n:
                raise ValueError(f"{n} values cannot be averaged in {m} blocks; give 1 to {n}")
        self.axes = tuple(axes)
        self._blocks = [torch.arange(n) * m // n for n, m in zip(fine, coarse, strict=True)]
        self.coarse = tuple(coarse)

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Means of the blocks."""
        for axis, block, count in zip(self.axes, self._blocks, self.coarse, strict=True):
            block = block.to(x.device)
            shape = [*x.shape[:axis], count, *x.shape[axis + 1 :]]
            length = torch.bincount(block, minlength=count).to(x).view(-1, *([1] * (x.ndim - axis - 1)))
            x = x.new_zeros(shape).index_add(axis, block, x) / length
        return x

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        """Each mean, all over its block."""
        for axis, block in zip(self.axes, self._blocks, strict=True):
            y = y.index_select(axis, block.to(y.device))
        return y

    def lift(self, y: Tensor) -> Tensor:
        """The means with straight lines between their middles, corrected in the same way until nearly nothing is left.

        What is left then is spread evenly over the blocks, so that the means are those of ``y``.

        References:
            Irani & Peleg 1991, "Improving resolution by image registration", section 3.
        """
        x = self._straight(y)
        for _ in range(ROUNDS):
            x = x + self._straight(y - self.A(x))
        return x + self.A_dagger(y - self.A(x))

    def _straight(self, y: Tensor) -> Tensor:
        """Linear interpolation between the middles of the blocks."""
        x = y
        for axis, block, count in zip(self.axes, self._blocks, self.coarse, strict=True):
            length = len(block)
            at = ((torch.arange(length) + 0.5) * count / length - 0.5).clamp(0, count - 1)
            low = at.floor().long().clamp(max=max(count - 2, 0))
            share = (at - low).to(y).view(-1, *([1] * (x.ndim - axis - 1)))
            below = x.index_select(axis, low.to(y.device))
            above = x.index_select(axis, (low + 1).clamp(max=count - 1).to(y.device))
            x = (1 - share) * below + share * above
        return x


@final
class Luma:
    r"""The brightness of colours, :math:`y = w^\top x` with the weights :data:`LUMA` along the channels.

    .. math:: A^\dagger y = w\,y / \|w\|^2

    It keeps coefficient 0 of the orthogonal transform of colours whose first basis vector is :math:`w/\|w\|`.

    References:
        Song et al. 2023, arXiv 2303.01469, appendix D, "colorization".
    """

    def _weights(self, x: Tensor) -> Tensor:
        return x.new_tensor(LUMA).view(1, 3, *([1] * (x.ndim - 2)))

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Brightness, ``[b, 1, ...]``."""
        return (x * self._weights(x)).sum(dim=1, keepdim=True)

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        """The shortest colours of that brightness."""
        weights = self._weights(y)
        return weights * y / weights.square().sum()

    def lift(self, y: Tensor) -> Tensor:
        """Grey of that brightness, where the shortest colours are greenish."""
        return (y / sum(LUMA)).expand(-1, 3, *y.shape[2:])
