from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unistep.evaluation.intervals import FrechetReference, resampled
from unistep.evaluation.metrics import Moments, frechet_distance


def normal(n: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x + shift


def test_the_distance_is_the_frechet_distance() -> None:
    real, fake = normal(400, 6, 0), 1.3 * normal(300, 6, 1, 0.2)
    found = resampled(fake, FrechetReference(Moments.of(real)))
    assert found.value == pytest.approx(frechet_distance(real, fake), rel=1e-9)


@pytest.mark.parametrize("num", [2, 5, 12, 13, 40])
def test_the_distance_of_items_is_that_of_their_moments(num: int) -> None:
    reference = FrechetReference(Moments.of(normal(300, 12, 0)))
    x = normal(num, 12, 1, 0.2)
    moments = Moments.of(x)
    # The root of an eigenvalue that is nothing is that of the rounding of the largest one.
    noise = 12 * (12 * torch.finfo(torch.float64).eps * float(moments.covariance.trace())) ** 0.5
    assert reference.distance_of_items(x) == pytest.approx(
        reference.distance(moments.mean, moments.covariance), abs=2 * noise
    )


def test_the_halves_of_few_items_are_those_of_their_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = FrechetReference(Moments.of(normal(300, 12, 0)))
    x = normal(12, 12, 1, 0.2)
    few = resampled(x, reference)
    monkeypatch.setattr(
        FrechetReference, "distance_of_items", lambda self, x: self.distance(x.mean(dim=0), Moments.of(x).covariance)
    )
    plain = resampled(x, reference)
    assert len(few.halves) == 48
    torch.testing.assert_close(few.halves, plain.halves, rtol=0, atol=1e-5)


def test_the_interval_of_a_shift_is_that_of_its_mean() -> None:
    # |mean|^2 with mean ~ N(shift, I / n) has deviation 2 |shift| / sqrt(n) where the shift is far larger than that;
    # the covariance's share is of the order dim / n smaller. The spread over 48 halves is itself known to 1 / sqrt(31).
    n, dim, shift = 4_000, 4, 1.0
    reference = FrechetReference(Moments.known(torch.zeros(dim), torch.eye(dim), 10**6))
    found = resampled(normal(n, dim, 2, shift), reference).estimate
    expected = 1.96 * 2 * shift * (dim / n) ** 0.5
    assert found.value == pytest.approx(dim * shift**2, rel=0.1)
    assert found.margin == pytest.approx(expected, rel=3 / 31**0.5)
    assert found.low < dim * shift**2 < found.high


def test_a_ratio_of_the_same_samples_is_one_without_doubt() -> None:
    reference = FrechetReference(Moments.of(normal(500, 5, 0)))
    x = normal(400, 5, 1, 0.3)
    ratio = resampled(x, reference).over(resampled(x.clone(), reference))
    assert ratio is not None
    assert (ratio.value, ratio.margin) == (1.0, 0.0)


def test_a_ratio_of_samples_of_the_same_noise_is_surer_than_of_others() -> None:
    reference = FrechetReference(Moments.of(normal(2_000, 5, 0)))
    x = normal(1_000, 5, 1, 0.3)
    one = resampled(x, reference)
    paired = resampled(1.02 * x + 0.02, reference).over(one)
    apart = resampled(1.02 * normal(1_000, 5, 2, 0.3) + 0.02, reference).over(one)
    assert paired is not None
    assert apart is not None
    assert paired.margin < 0.5 * apart.margin


def test_the_interval_does_not_depend_on_the_order_of_classes() -> None:
    labels = torch.arange(1_000) % 2
    x = normal(1_000, 3, 3) + 4 * labels[:, None]
    reference = FrechetReference(Moments.of(normal(1_000, 3, 4)))
    mixed = resampled(x, reference).estimate
    sorted_ = resampled(x[labels.argsort()], reference).estimate
    assert sorted_.value == pytest.approx(mixed.value, rel=1e-9)
    assert sorted_.margin == pytest.approx(mixed.margin, rel=3 / 31**0.5 * 2**0.5)


def test_a_distance_of_nothing_has_no_ratio() -> None:
    reference = FrechetReference(Moments.of(normal(50, 3, 0)))
    nothing = resampled(normal(50, 3, 0), reference)
    assert nothing.value == pytest.approx(0, abs=1e-9)
    assert nothing.value > 0 or resampled(normal(50, 3, 1), reference).over(nothing) is None
