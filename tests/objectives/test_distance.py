"""Distances by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tolerance import rounding
from unistep.objectives.distance import L1, Metric, PseudoHuber, SquaredL2

X, Y = torch.tensor([[[3.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]]), torch.zeros(2, 2, 2)
Y[0, 1, 1] = 4.0


def test_distances_are_per_example() -> None:
    assert SquaredL2()(X, Y).tolist() == pytest.approx([25 / 4, 1], rel=rounding(4))
    assert L1()(X, Y).tolist() == pytest.approx([7 / 4, 1], rel=rounding(4))
    assert PseudoHuber(c=0.0)(X, Y).tolist() == pytest.approx([5, 2], rel=rounding(4))
    assert PseudoHuber(c=12.0)(X, Y).tolist() == pytest.approx([13 - 12, math.sqrt(148) - 12], rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (64,)])
def test_the_default_huber_scale_is_that_of_ict(shape: tuple[int, ...]) -> None:
    """C = 0.00054 sqrt(D): 0.03 for CIFAR-10's 3072 numbers, as the paper says."""
    size = math.prod(shape)
    c = 0.00054 * math.sqrt(size)
    if size == 3072:
        assert c == pytest.approx(0.03, abs=1e-4)
    x = torch.randn(2, *shape)
    norm = x.flatten(1).norm(dim=1)
    torch.testing.assert_close(
        PseudoHuber()(x, torch.zeros_like(x)),
        (norm**2 + c**2).sqrt() - c,
        rtol=0,
        atol=rounding(size, float(norm.max())),
    )


@pytest.mark.parametrize("metric", [SquaredL2(), L1(), PseudoHuber(), PseudoHuber(c=0.0)])
def test_equal_signals_have_no_distance_and_a_finite_gradient(metric: Metric) -> None:
    x = torch.ones(2, 3, requires_grad=True)
    distance = metric(x, torch.ones(2, 3))
    torch.testing.assert_close(distance, torch.zeros(2), rtol=0, atol=1e-6)
    distance.sum().backward()
    assert x.grad is not None
    assert not x.grad.any()
