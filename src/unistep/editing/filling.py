"""A smooth first guess for what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unistep.editing.averages import BlockAverage

SMOOTHINGS = 8
"""Rounds of averaging over neighbours at each resolution."""


def smooth_fill(x: Tensor, known: Tensor, axes: Sequence[int]) -> Tensor:
    """Signals whose unknown values are smooth continuations of the known ones, from coarse to fine.

    The known values are averaged over pairs until there are some everywhere; on the way back each resolution fills in
    what the finer one lacks, and is smoothed there.

    Args:
        x: Signals ``[b, *shape]``.
        known: True where their values are known, of the same shape.
        axes: Axes along which values are neighbours.

    References:
        Gortler, Grzeszczuk, Szeliski & Cohen 1996, "The lumigraph", section 3.4.2 (pull-push).
    """
    known = known.expand_as(x)
    weight = known.to(x)
    if bool(known.all()):
        return x
    sizes = [x.shape[axis] for axis in axes]
    halves = [(size + 1) // 2 for size in sizes]
    if halves == sizes:  # one value is left along each axis, and nothing is known of it
        return torch.where(known, x, 0)
    coarser = BlockAverage(axes, sizes, halves)
    share = coarser.A(weight)
    means = coarser.A(x * weight) / share.clamp(min=1e-12)
    x = torch.where(known, x, coarser.A_dagger(smooth_fill(means, share > 0, axes)))
    for _ in range(SMOOTHINGS):
        neighbours = torch.stack([_shifted(x, axis, way) for axis in axes for way in (-1, 1)])
        x = torch.where(known, x, neighbours.mean(dim=0))
    return x


def _shifted(x: Tensor, axis: int, way: int) -> Tensor:
    """The neighbour along an axis; at the borders the value itself."""
    size = x.shape[axis]
    return x.index_select(axis, (torch.arange(size, device=x.device) + way).clamp(0, size - 1))
