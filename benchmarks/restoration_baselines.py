"""Restoration with a many-step denoiser, and without any model, to compare editing with.

All follow the variance-exploding path from the largest to the smallest noise level, along the grid of Karras et al.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unistep.core.timesteps import karras_grid

Denoise = Callable[[Tensor, float], Tensor]
"""``denoise(x, sigma) -> x0``: the mean of the data given a noisy signal."""


def ddrm(
    denoise: Denoise, operator: Any, y: Tensor, noise: Tensor, steps: int, generator: torch.Generator,
    *, eta: float = 0.85, sigma_y: float = 0.0,
) -> Tensor:  # fmt: skip
    r"""DDRM with :math:`\eta_b = 1` for operators whose singular values are all one, and for any without noise.

    In the range of :math:`A^\dagger A` the signal is :math:`A^\dagger y` with fresh noise; elsewhere a share
    :math:`\sqrt{1 - \eta^2}` of the noise is that which the denoiser has found. Below the noise of the measurement the
    range follows equation 8's second case.

    References:
        Kawar et al. 2022, arXiv 2201.11793, equations 7 and 8.
    """
    levels = [float(level) for level in karras_grid(steps, 0.02, 80.0)]
    known = operator.A_dagger(y)

    def in_range(v: Tensor) -> Tensor:
        return operator.A_dagger(operator.A(v))

    x = known + levels[0] * noise
    for t, s in zip(levels, [*levels[1:], 0.0], strict=True):
        clean = denoise(x, t).clamp(-1, 1)
        found = (x - clean) / t
        fresh = torch.randn(x.shape, generator=generator)
        outside = clean + s * (math.sqrt(1 - eta**2) * found + eta * fresh)
        if s >= sigma_y:
            inside = known + math.sqrt(s**2 - sigma_y**2) * fresh
        else:
            inside = clean + math.sqrt(1 - eta**2) * s * (known - clean) / sigma_y + eta * s * fresh
        x = in_range(inside) + outside - in_range(outside)
    return x.clamp(-1, 1)


def dps(
    denoise: Denoise, operator: Any, y: Tensor, noise: Tensor, steps: int, generator: torch.Generator,
    *, step_size: float = 1.0, limit: float = 1.0,
) -> Tensor:  # fmt: skip
    r"""DPS: ancestral steps, each followed by one against the gradient of :math:`\|y - A D(x_t)\|`.

    The paper's steps are on the variance-preserving path, where a signal is :math:`\sqrt{1 + \sigma^2}` times smaller;
    the gradient is scaled so that they are the same here. The result is clamped to ``limit`` on either side.

    References:
        Chung et al. 2023, arXiv 2209.14687, algorithm 1, with :math:`\zeta_i = \zeta' / \|y - A D(x_t)\|`.
    """
    levels = [float(level) for level in karras_grid(steps, 0.02, 80.0)]
    x = levels[0] * noise
    for t, s in zip(levels, [*levels[1:], 0.0], strict=True):
        x = x.detach().requires_grad_()
        clean = denoise(x, t)
        distance = (operator.A(clean) - y).flatten(1).norm(dim=1).sum()
        (gradient,) = torch.autograd.grad(distance, x)
        with torch.no_grad():
            ratio = (s / t) ** 2
            x = clean + ratio * (x - clean) + s * math.sqrt(1 - ratio) * torch.randn(x.shape, generator=generator)
            x = x - step_size * math.sqrt((1 + s**2) * (1 + t**2)) * gradient
    return x.detach().clamp(-limit, limit)


def membrane(y: Tensor, known: Tensor, rounds: int = 500) -> Tensor:
    """The smoothest pictures with the known values: each other value is the mean of its four neighbours."""
    x = torch.where(
        known, y, y.flatten(1).sum(dim=1).view(-1, 1, 1, 1) / known.expand_as(y).flatten(1).sum(1).view(-1, 1, 1, 1)
    )
    for _ in range(rounds):
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        mean = (padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]) / 4
        x = torch.where(known, y, mean)
    return x


def bicubic(y: Tensor, size: tuple[int, int]) -> Tensor:
    """Small pictures enlarged."""
    return F.interpolate(y, size=size, mode="bicubic", align_corners=False).clamp(-1, 1)


def straight_line(y: Tensor, known: Tensor) -> Tensor:
    """Sounds whose gap is a straight line from its last known sample to the next."""
    first, last = (int(i) for i in (~known).flatten().nonzero()[[0, -1]])
    x = y.clone()
    share = torch.linspace(0, 1, last - first + 3)[1:-1]
    before, after = y[..., max(first - 1, 0), None], y[..., min(last + 1, y.shape[-1] - 1), None]
    x[..., first : last + 1] = before + share * (after - before)
    return x
