"""How far two signals are apart, one number per example."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]
"""``metric(x, y) -> [b]``: the hook for LPIPS or any other distance on a pair of ``[b, *shape]`` in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class SquaredL2:
    r"""Mean square, :math:`\frac1D\lVert x-y\rVert_2^2`."""

    def __call__(self, x: Float[Tensor, "b *shape"], y: Float[Tensor, "b *shape"]) -> Float[Tensor, " b"]:
        return (x - y).square().flatten(1).mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class L1:
    r"""Mean absolute difference, :math:`\frac1D\lVert x-y\rVert_1`."""

    def __call__(self, x: Float[Tensor, "b *shape"], y: Float[Tensor, "b *shape"]) -> Float[Tensor, " b"]:
        return (x - y).abs().flatten(1).mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class PseudoHuber:
    r"""A norm that is smooth at zero, :math:`\sqrt{\lVert x-y\rVert_2^2 + c^2} - c`, with the *vector* norm.

    References:
        Song & Dhariwal 2023, arXiv 2310.14189, equation 7; with ``c = 0`` it is the plain norm of ECT's CIFAR-10 runs.
    """

    c: float | None = None
    r"""The scale below which it is quadratic; ``None`` is the paper's :math:`0.00054\sqrt D`."""

    def __post_init__(self) -> None:
        if self.c is not None and not 0 <= self.c < math.inf:
            raise ValueError(f"c must be 0 (the plain norm) or more, or None for the paper's, got {self.c}")

    def __call__(self, x: Float[Tensor, "b *shape"], y: Float[Tensor, "b *shape"]) -> Float[Tensor, " b"]:
        difference = (x - y).flatten(1)
        c = 0.00054 * difference.shape[1] ** 0.5 if self.c is None else self.c
        # The floor keeps the gradient of the square root finite where both signals agree; with c it never acts.
        return (difference.square().sum(dim=1) + c * c).clamp(min=1e-24).sqrt() - c


Distance = SquaredL2 | L1 | PseudoHuber
"""The distances that a configuration can name."""
