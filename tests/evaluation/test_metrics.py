from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from unistep.evaluation.metrics import Moments, frechet_distance, kernel_distance, neighbourhood


def _normal(n: int, dim: int, seed: int, *, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64) * scale + shift


def _scipy_distance(real: torch.Tensor, fake: torch.Tensor) -> float:
    r, f = real.double().numpy(), fake.double().numpy()
    cov_r, cov_f = np.cov(r, rowvar=False), np.cov(f, rowvar=False)
    root = np.asarray(linalg.sqrtm(cov_r @ cov_f)).real
    return float(((r.mean(0) - f.mean(0)) ** 2).sum() + np.trace(cov_r + cov_f - 2 * root))


def test_the_distance_between_known_gaussians_is_the_closed_form() -> None:
    # N(m, diag a²) and N(n, diag b²): |m - n|² + sum (a - b)²
    m, n = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.5, 1.0, 3.0])
    a, b = torch.tensor([1.0, 2.0, 0.1]), torch.tensor([3.0, 2.0, 0.7])
    left = Moments.known(m, torch.diag(a**2), 1000)
    right = Moments.known(n, torch.diag(b**2), 500)
    assert frechet_distance(left, right) == pytest.approx(float(((m - n) ** 2).sum() + ((a - b) ** 2).sum()), rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 3.0, 1e4])
def test_the_distance_agrees_with_a_matrix_square_root(shift: float) -> None:
    mix = _normal(12, 12, 3)
    real, fake = _normal(400, 12, 0, shift=shift), _normal(300, 12, 1) @ mix + shift
    assert frechet_distance(real, fake) == pytest.approx(_scipy_distance(real, fake), rel=1e-6)


def test_the_distance_survives_fewer_samples_than_features() -> None:
    real, fake = _normal(500, 32, 0), _normal(20, 32, 1)
    assert frechet_distance(real, fake) == pytest.approx(_scipy_distance(real, fake), rel=1e-4)


def test_the_distance_of_a_set_to_itself_is_zero_and_to_another_symmetric() -> None:
    real, fake = _normal(200, 8, 0), _normal(300, 8, 1, scale=2.0)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real), rel=1e-9)


def test_moments_of_a_stream_are_those_of_the_whole_even_far_from_zero() -> None:
    features = _normal(1001, 5, 0, scale=1e-3, shift=1e5)
    stream = Moments(5)
    for batch in features.split(64):
        stream.update(batch)
    stream.update(features[:0])
    assert stream.count == 1001
    torch.testing.assert_close(stream.mean, features.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(stream.covariance, torch.cov(features.T), rtol=1e-6, atol=0)


def test_kernel_distance_is_the_unbiased_estimate() -> None:
    real, fake = _normal(12, 4, 0), _normal(12, 4, 1, scale=1.5)
    # One subset of half the items, found again by drawing as torchmetrics draws.
    with torch.random.fork_rng():
        torch.manual_seed(7)
        x, y = real[torch.randperm(12)[:6]], fake[torch.randperm(12)[:6]]
    k = lambda a, b: (a @ b.T / 4 + 1) ** 3  # noqa: E731
    off = 1 - torch.eye(6, dtype=torch.float64)
    expected = ((k(x, x) + k(y, y)) * off).sum() / 30 - 2 * k(x, y).mean()
    mean, std = kernel_distance(real, fake, subsets=1, seed=7)
    assert mean == pytest.approx(float(expected), rel=1e-9)
    assert std == 0


def test_kernel_distance_is_near_zero_for_equal_laws_and_repeatable() -> None:
    real, fake, other = _normal(600, 8, 0), _normal(600, 8, 1), _normal(600, 8, 2, shift=1.0)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    same, spread = kernel_distance(real, fake)
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator must not move"
    assert kernel_distance(real, fake) == (same, spread)
    assert abs(same) < 3 * spread + 0.02
    assert kernel_distance(real, other)[0] > 20 * abs(same)


def _by_definition(real: torch.Tensor, fake: torch.Tensor, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage, straight from the papers."""
    rr, ff, fr = torch.cdist(real, real), torch.cdist(fake, fake), torch.cdist(fake, real)
    radius_r, radius_f = rr.sort(1).values[:, k], ff.sort(1).values[:, k]
    inside = fr <= radius_r
    return (
        float(inside.any(1).double().mean()),
        float((fr <= radius_f[:, None]).any(0).double().mean()),
        float(inside.double().sum() / (k * len(fake))),
        float((fr.min(0).values <= radius_r).double().mean()),
    )


@pytest.mark.parametrize(("k", "n", "m"), [(3, 150, 150), (5, 90, 140)])
def test_neighbour_figures_follow_their_definitions(k: int, n: int, m: int) -> None:
    real, fake = _normal(n, 6, 0), _normal(m, 6, 1, scale=0.8, shift=0.3)
    found = neighbourhood(real, fake, k=k, k_density=k)
    expected = _by_definition(real, fake, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected, abs=1e-12)


def test_a_collapsed_model_has_precision_without_recall() -> None:
    real = _normal(300, 4, 0)
    collapsed = real[:1] + 1e-3 * _normal(300, 4, 1)
    found = neighbourhood(real, collapsed)
    assert found.precision == 1
    assert found.recall < 0.02
    assert found.coverage < 0.1


def test_far_away_samples_have_neither() -> None:
    found = neighbourhood(_normal(100, 4, 0), _normal(100, 4, 1, shift=50.0))
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frechet_distance(_normal(10, 3, 0), _normal(10, 4, 0)), "3 features with 4"),
        (lambda: frechet_distance(_normal(1, 3, 0), _normal(10, 3, 0)), "at least 2 samples"),
        (lambda: frechet_distance(_normal(9, 3, 0), torch.full((9, 3), torch.nan)), "not finite"),
        (lambda: kernel_distance(_normal(3, 3, 0), _normal(10, 3, 0)), "at least 4 samples"),
        (lambda: neighbourhood(_normal(5, 3, 0), _normal(10, 3, 0)), "over 5 samples"),
        (lambda: Moments.of(_normal(1, 3, 0)).covariance, "at least 2 samples"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
