"""How much noise a signal has, by what is finest in it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.modalities.layout import Layout

NORMAL = 0.6745
"""Median of the size of a standard normal number."""
EDGE = 1e-3
"""Values so close to the ends of the range may have been clamped, and do not count."""


def estimate_sigma(x: Float[Tensor, "b *shape"], layout: Layout) -> Float[Tensor, " b"]:
    r"""The standard deviation of white noise on signals, from the median of their finest Haar details.

    .. math:: \hat\sigma = \mathrm{median}(|d|) / 0.6745

    Along two axes of space :math:`d = (x_{00} - x_{01} - x_{10} + x_{11})/2`; along time
    :math:`d = (x_0 - 3 x_1 + 3 x_2 - x_3)/\sqrt{20}`. Values at the ends of the range are left out.

    Args:
        x: Signals.
        layout: What their axes mean.

    Raises:
        ValueError: If they have neither space nor time.

    References:
        Donoho & Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage", section 3.2.
    """
    inside = x.abs() < 1 - EDGE
    if layout.space:
        rows, columns = layout.space
        corners = [
            (_every(x, rows, i, columns, j), _every(inside, rows, i, columns, j)) for i in (0, 1) for j in (0, 1)
        ]
        details = (corners[0][0] - corners[1][0] - corners[2][0] + corners[3][0]) / 2
        counts = corners[0][1] & corners[1][1] & corners[2][1] & corners[3][1]
    elif layout.time is not None:
        length = x.shape[layout.time] - 3
        parts = [x.narrow(layout.time, i, length) for i in range(4)]
        details = (parts[0] - 3 * parts[1] + 3 * parts[2] - parts[3]) / math.sqrt(20)
        counts = inside.narrow(layout.time, 0, length) & inside.narrow(layout.time, 3, length)
    else:
        raise ValueError(
            "the noise of such signals cannot be estimated: they have neither space nor time; give sigma (--sigma)"
        )
    found = [
        float(one[kept].abs().median()) / NORMAL if kept.any() else 0.0
        for one, kept in zip(details, counts, strict=True)
    ]
    return torch.tensor(found)


def _every(x: Tensor, rows: int, i: int, columns: int, j: int) -> Tensor:
    """Every second row and column, from the i-th and the j-th on."""
    height, width = x.shape[rows] // 2, x.shape[columns] // 2
    x = x.index_select(rows, 2 * torch.arange(height, device=x.device) + i)
    return x.index_select(columns, 2 * torch.arange(width, device=x.device) + j)
