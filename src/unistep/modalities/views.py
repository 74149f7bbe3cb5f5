"""Random changes that leave a signal what it is, for learning without labels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def shifted(
    x: Float[Tensor, "b *shape"], most: tuple[int, ...], generator: torch.Generator
) -> Float[Tensor, "b *shape"]:
    """Each signal moved along its last axes by whole steps, its edge values repeated where nothing was.

    Whole steps, because interpolation would blur: a network that learns that blurred signals are the same signals
    cannot tell blur afterwards.

    Args:
        x: Signals.
        most: Largest shift in either direction along each of the last axes.
        generator: Source of randomness.
    """
    for axis, furthest in enumerate(most, start=x.ndim - len(most)):
        size = x.shape[axis]
        by = torch.randint(-furthest, furthest + 1, (len(x), 1), generator=generator)
        source = (torch.arange(size) - by).clamp(0, size - 1).to(x.device)
        index = source.view(len(x), *(size if i == axis else 1 for i in range(1, x.ndim)))
        x = x.gather(axis, index.expand_as(x))
    return x


def scaled(x: Float[Tensor, "b *shape"], decibels: float, generator: torch.Generator) -> Float[Tensor, "b *shape"]:
    """Each signal louder or softer by up to so many decibels."""
    level = decibels * (2 * torch.rand(len(x), generator=generator) - 1)
    return x * (10 ** (level / 20)).to(x.device).view(-1, *(1 for _ in x.shape[1:]))
