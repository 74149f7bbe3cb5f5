"""Target points against their closed forms: the same data and noise, or a step of the ODE with the solver's order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from analytic import GaussianDenoiser, GaussianFlow
from unistep.core.path import Path, VarianceExploding
from unistep.objectives.targets import target_point


def points(path: Path, sigma: float, num: int = 16) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Data, noise, their points and their times at one noise level."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(num, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = path.time_at(torch.full((num,), sigma, dtype=torch.float64))
    return x0, noise, path.perturb(x0, noise, t), t


def test_on_data_it_has_the_same_data_and_noise(path: Path) -> None:
    x0, noise, x_t, t = points(path, 2.0)
    r = path.time_at(torch.full_like(t, 0.5))
    found = target_point("data", None, path, x_t, x0, noise, t, r, {})
    torch.testing.assert_close(found, path.perturb(x0, noise, r))


@pytest.mark.parametrize(("how", "order"), [("euler", 2), ("heun", 3)])
def test_a_step_of_the_teacher_has_the_error_of_its_solver(how: str, order: int) -> None:
    """A step of length h is wrong by O(h^2) with Euler and by O(h^3) with Heun, and leads down in noise."""
    path = VarianceExploding()
    teacher, flow = GaussianDenoiser(path), GaussianFlow(path)
    x0, noise, x_t, t = points(path, 2.0)
    errors = []
    for length in (0.1, 0.05):
        r = t - length
        found = target_point(how, teacher, path, x_t, x0, noise, t, r, {})  # type: ignore[arg-type]
        errors.append((found - flow(x_t, t, r)).norm().item())
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


@pytest.mark.parametrize("how", ["euler", "heun"])
def test_at_time_zero_it_is_the_data(path: Path, how: str) -> None:
    x0, noise, x_t, t = points(path, 2.0, num=4)
    r = torch.where(torch.arange(4) < 2, 0.0, path.time_at(torch.full_like(t, 1.0)))
    found = target_point(how, GaussianDenoiser(path), path, x_t, x0, noise, t, r, {})  # type: ignore[arg-type]
    assert torch.equal(found[:2], x0[:2])
    assert not torch.isclose(found[2:], x0[2:]).any()
