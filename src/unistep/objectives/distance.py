"""Distances between two signals, one number per example."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from unistep.core.path import expand_to

Metric = Callable[..., Tensor]
"""``metric(x, y) -> [b]``: for LPIPS or any other distance of a pair of ``[b, *shape]`` in [-1, 1]. Where an
item has several noise levels it is called as ``metric(x, y, weight)``, with a weight that broadcasts against ``x``."""


def _weighted(values: Float[Tensor, "b *shape"], weight: Tensor | None) -> Float[Tensor, "b *shape"]:
    return values if weight is None else expand_to(weight, values) * values


@dataclass(frozen=True, kw_only=True)
class SquaredL2:
    r"""Mean square, :math:`\frac1D\lVert x-y\rVert_2^2`, or with weights :math:`\frac1D\sum_i w_i (x_i-y_i)^2`."""

    def __call__(
        self, x: Float[Tensor, "b *shape"], y: Float[Tensor, "b *shape"], weight: Tensor | None = None
    ) -> Float[Tensor, " b"]:
        return _weighted((x - y).square(), weight).flatten(1).mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class L1:
    r"""Mean absolute difference, :math:`\frac1D\sum_i w_i \lvert x_i-y_i\rvert`."""

    def __call__(
        self, x: Float[Tensor, "b *shape"], y: Float[Tensor, "b *shape"], weight: Tensor | None = None
    ) -> Float[Tensor, " b"]:
        return _weighted((x - y).abs(), weight).flatten(1).mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class PseudoHuber:
    r"""A norm that is smooth at zero, :math:`\sqrt{\lVert x-y\rVert_2^2 + c^2} - c`, with the *vector* norm.

    With weights, whose mean is :math:`\bar w`, it is
    :math:`\bar w \big(\sqrt{\sum_i (w_i/\bar w) (x_i-y_i)^2 + c^2} - c\big)`, so that equal weights are a factor.

    References:
        Song & Dhariwal 2023, arXiv 2310.14189, equation 7; with ``c = 0`` it is the plain norm of ECT's CIFAR-10 runs.
    """

    c: float | None = None
    r"""The scale below which it is quadratic; ``None`` is the paper's :math:`0.00054\sqrt D`."""

    def __post_init__(self) -> None:
        if self.c is not None and not 0 <= self.c < math.inf:
            raise ValueError(f"c must be 0 (the plain norm) or more, or None for the paper's, got {self.c}")

    def __call__(
        self, x: Float[Tensor, "b *shape"], y: Float[Tensor, "b *shape"], weight: Tensor | None = None
    ) -> Float[Tensor, " b"]:
        square, mean = (x - y).square(), None
        if weight is not None:
            mean = weight if weight.ndim == 1 else weight.flatten(1).mean(dim=1)
            square = _weighted(square, weight / expand_to(mean, weight))
        square = square.flatten(1)
        c = 0.00054 * square.shape[1] ** 0.5 if self.c is None else self.c
        # The floor keeps the gradient of the square root finite where both signals agree; with c it never acts.
        distance = (square.sum(dim=1) + c * c).clamp(min=1e-24).sqrt() - c
        return distance if mean is None else mean * distance


Distance = SquaredL2 | L1 | PseudoHuber
"""The distances that a configuration can name."""


def weighted_distance(
    metric: Metric, x: Float[Tensor, "b *shape"], y: Float[Tensor, "b *shape"], weight: Float[Tensor, "b *levels"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """The distance with the weights of the noise levels, and without.

    Args:
        metric: The distance.
        x: Signals.
        y: Signals to compare them with.
        weight: A weight for each item, ``[b]``, or for each of its noise levels, ``[b, 1, frames, 1, 1]``.
    """
    distance = metric(x, y)
    return (weight * distance if weight.ndim == 1 else metric(x, y, weight)), distance
