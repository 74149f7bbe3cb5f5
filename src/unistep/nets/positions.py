"""Positions of the tokens of a grid: rotations of queries and keys, and sines that are added to the tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ROTARY_BASE = 100.0
"""Ratio of the largest to the smallest rotary frequency: the slowest turns once in 628 positions. Sides of images count
tens of tokens, for which the usual 10,000 of text would leave most of the frequencies still."""
ABSOLUTE_BASE = 10_000.0
"""The same of the sines that are added, as in the transformer and the DiT."""


def _angles(sizes: Sequence[int], per_axis: int, base: float, device: torch.device) -> list[Tensor]:
    r"""For each axis the angles :math:`p\,\beta^{-k/K}` of its positions on the whole grid, ``[*sizes, per_axis]``."""
    frequencies = base ** -(torch.arange(per_axis, device=device, dtype=torch.float32) / per_axis)
    found = []
    for axis, size in enumerate(sizes):
        angles = torch.arange(size, device=device, dtype=torch.float32)[:, None] * frequencies
        shape = [size if a == axis else 1 for a in range(len(sizes))]
        found.append(angles.view(*shape, per_axis).expand(*sizes, per_axis))
    return found


def rotary_angles(sizes: Sequence[int], head_dim: int, device: torch.device) -> Tensor:
    """Angles by which the pairs of features of a head are turned at each position of a grid of 1 to 3 axes.

    Each axis has an equal share of the pairs, at geometrically spaced frequencies; pairs that are left over are not
    turned.

    Args:
        sizes: Positions along each axis.
        head_dim: Features of a head, even and at least 2 for each axis.
        device: Where to put them.

    Returns:
        Shape ``[n, head_dim / 2]``, ``n`` the product of the sizes, in radians.

    References:
        Su et al. 2021, arXiv 2104.09864, equation 15; an axis at a time, as Heo et al. 2024, arXiv 2403.13298,
        section 3.2.
    """
    pairs = head_dim // 2
    angles = torch.cat(_angles(sizes, pairs // len(sizes), ROTARY_BASE, device), dim=-1).flatten(0, -2)
    return torch.nn.functional.pad(angles, (0, pairs - angles.shape[-1]))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    r"""Turn pairs of features, the first half and the second of each vector.

    .. math:: (a, b) \mapsto (a\cos\theta - b\sin\theta,\; a\sin\theta + b\cos\theta)

    The product of a query and a key that are turned so depends on the difference of their positions only.

    Args:
        x: Shape ``[..., n, d]``.
        cos: Cosines of the angles, shape ``[n, d / 2]``.
        sin: Sines of the angles.
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def absolute_positions(sizes: Sequence[int], width: int, device: torch.device) -> Tensor:
    """Sines and cosines of each position of a grid, to be added to its token.

    Args:
        sizes: Positions along each axis.
        width: Features of a token; those beyond a multiple of twice the number of axes are zero.
        device: Where to put them.

    Returns:
        Shape ``[n, width]``.

    References:
        Vaswani et al. 2017, arXiv 1706.03762, section 3.5; an axis at a time, as Peebles & Xie 2023, arXiv 2212.09748.
    """
    angles = _angles(sizes, width // (2 * len(sizes)), ABSOLUTE_BASE, device)
    features = torch.cat([f for a in angles for f in (a.sin(), a.cos())], dim=-1).flatten(0, -2)
    return torch.nn.functional.pad(features, (0, width - features.shape[-1]))
