"""Solvers on Gaussian data, whose ODE has an exact solution: order of convergence and agreement between paths."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from analytic import PATHS, GaussianDenoiser, GaussianFlow
from unistep.core.flowmap import Denoiser
from unistep.core.path import Path, TrigFlow, VarianceExploding
from unistep.core.solvers import STEPS, euler_step, heun_step, network_calls, sample_ode, trace_ode
from unistep.core.timesteps import karras_grid

DOUBLE = torch.float64


def ratio_grid(path: Path, steps: int, start: float = 5.0, end: float = 0.2) -> Tensor:
    """``steps`` steps between two noise levels, equally spaced in the log of the ratio."""
    logs = torch.linspace(math.log(start), math.log(end), steps + 1, dtype=DOUBLE)
    return path.time_at(logs.exp())


def error(path: Path, solver: str, steps: int) -> float:
    """Largest distance from the exact solution at the last level of the grid."""
    denoiser, flow = GaussianDenoiser(path, 0.3, 0.7), GaussianFlow(path, 0.3, 0.7)
    grid = ratio_grid(path, steps)
    noise = torch.tensor([[-1.3], [0.2], [2.1]], dtype=DOUBLE)
    x = list(trace_ode(denoiser, noise, grid, solver=solver))[-2]  # type: ignore[arg-type]
    begin = path.sigma(grid[:1]).expand(3)[:, None] * noise
    exact = flow(begin, grid[0].expand(3), grid[-1].expand(3))
    return (x - exact).abs().max().item()


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("dpmpp2m", 2)])
def test_order_of_convergence(path: Path, solver: str, order: int) -> None:
    errors = [error(path, solver, steps) for steps in (20, 40, 80)]
    rates = [math.log2(a / b) for a, b in pairwise(errors)]
    assert rates[-1] == pytest.approx(order, abs=0.15), rates
    assert errors[-1] < 0.05


def test_second_order_beats_first_at_equal_calls(path: Path) -> None:
    assert error(path, "heun", 20) < 0.5 * error(path, "euler", 40)
    assert error(path, "dpmpp2m", 40) < 0.5 * error(path, "euler", 40)


@pytest.mark.parametrize("step", [euler_step, heun_step])
def test_a_step_of_no_length_does_nothing(path: Path, step: object) -> None:
    x, t = torch.randn(3, 2, dtype=DOUBLE), torch.full((3,), 0.5, dtype=DOUBLE)
    torch.testing.assert_close(step(GaussianDenoiser(path), x, t, t), x)  # type: ignore[operator]


def test_steps_take_a_time_for_each_example() -> None:
    """In distillation every example of a batch has its own pair of levels."""
    path = VarianceExploding()
    denoiser = GaussianDenoiser(path)
    x, t, s = torch.randn(4, 2), torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.5, 0.1, 2.9, 1.0])
    for step in STEPS.values():
        together = step(denoiser, x, t, s, None)
        for i in range(4):
            alone = step(denoiser, x[i : i + 1], t[i : i + 1], s[i : i + 1], None)
            torch.testing.assert_close(together[i : i + 1], alone)


def test_euler_and_heun_are_edms_algorithm_by_hand() -> None:
    """Karras et al. 2022, algorithm 1, for one number and a denoiser that halves."""

    class Half(Denoiser):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
            return 0.5 * x

    denoiser = Half(nn.Identity(), VarianceExploding())
    x, t, s = torch.tensor([[8.0]]), torch.tensor([4.0]), torch.tensor([1.0])
    d = (8 - 4) / 4
    predicted = 8 + (1 - 4) * d
    assert euler_step(denoiser, x, t, s).item() == pytest.approx(predicted)
    d_next = (predicted - 0.5 * predicted) / 1
    assert heun_step(denoiser, x, t, s).item() == pytest.approx(8 + (1 - 4) * (d + d_next) / 2)


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp2m"])
def test_sampling_reaches_the_data_law(path: Path, solver: str, generator: torch.Generator) -> None:
    noise = torch.randn(20_000, 1, generator=generator)
    top = min(path.ratio(torch.tensor(path.t_max)).item(), 80.0)
    grid = path.time_at(karras_grid(40, 0.002, top))
    x = sample_ode(GaussianDenoiser(path, 0.3, 0.7), noise, grid, solver=solver)  # type: ignore[arg-type]
    assert x.mean().item() == pytest.approx(0.3, abs=0.03)
    # Euler's error over 40 steps is a few per cent of the spread.
    assert x.std().item() == pytest.approx(0.7, rel=0.08 if solver == "euler" else 0.02)


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp2m"])
@pytest.mark.parametrize("name", ["linear", "quarter"])
def test_sampling_may_start_at_pure_noise(solver: str, name: str) -> None:
    """At t = 1 on the linear path and pi/2 on TrigFlow the signal has vanished and the ratio is infinite."""
    path: Path = PATHS["linear"] if name == "linear" else TrigFlow()
    top = torch.tensor([1.0 if name == "linear" else math.pi / 2])
    grid = torch.cat([top, path.time_at(karras_grid(30, 0.002, 80.0))])
    noise = torch.tensor([[-1.0], [0.0], [1.0]])
    x = sample_ode(GaussianDenoiser(path, 0.3, 0.7), noise, grid, solver=solver)  # type: ignore[arg-type]
    torch.testing.assert_close(x, 0.3 + 0.7 * noise, rtol=0, atol=0.1 if solver == "euler" else 0.02)


def test_dpm_solver_is_exact_for_a_constant_estimate(path: Path) -> None:
    """With D constant the exponential integrator has no error, whatever the steps."""

    class Constant(Denoiser):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
            return torch.full_like(x, 0.4)

    grid = ratio_grid(path, 3)
    noise = torch.tensor([[0.7]], dtype=DOUBLE)
    x = list(trace_ode(Constant(nn.Identity(), path), noise, grid, solver="dpmpp2m"))[-2]
    n = (path.sigma(grid[:1]) * noise - path.alpha(grid[:1]) * 0.4) / path.sigma(grid[:1])
    torch.testing.assert_close(x, path.alpha(grid[-1:]) * 0.4 + path.sigma(grid[-1:]) * n)


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp2m"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_network_calls_are_counted(solver: str, steps: int) -> None:
    calls = []

    class Counting(GaussianDenoiser):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
            calls.append(t)
            return super().forward(x, t, s, condition)

    grid = karras_grid(steps, 0.002, 80.0)
    states = list(trace_ode(Counting(VarianceExploding()), torch.randn(2, 3), grid, solver=solver))  # type: ignore[arg-type]
    assert len(calls) == network_calls(solver, steps)  # type: ignore[arg-type]
    assert len(states) == steps
    assert all(t.shape == (2,) for t in calls)


def test_one_step_is_the_denoised_noise() -> None:
    path, noise = VarianceExploding(), torch.randn(2, 3)
    denoiser = GaussianDenoiser(path)
    x = sample_ode(denoiser, noise, torch.tensor([80.0]))
    torch.testing.assert_close(x, denoiser(80 * noise, torch.full((2,), 80.0)))


def test_the_condition_reaches_every_call() -> None:
    seen: list[object] = []

    class ConditionValue(GaussianDenoiser):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
            seen.append(condition)
            return super().forward(x, t, s)

    condition = {"label": torch.tensor([1, 2])}
    for solver in ("euler", "heun", "dpmpp2m"):
        sample_ode(
            ConditionValue(VarianceExploding()), torch.randn(2, 1), karras_grid(3, 0.1, 8.0), condition, solver=solver
        )
    assert len(seen) == 3 + 5 + 3
    assert all(c is condition for c in seen)
