"""The arithmetic of our samplers against the schedulers of diffusers, with the same networks and the same noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from analytic import PATHS, GaussianDenoiser, TanhNet, WavyNet
from unistep.core.flowmap import ConsistencyModel, Denoiser
from unistep.core.path import VarianceExploding
from unistep.core.sampling import sample_multistep
from unistep.core.solvers import sample_ode
from unistep.core.timesteps import karras_grid

VE = VarianceExploding()

# diffusers hands PyTorch tensors to NumPy in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def diffusers() -> Any:
    """Imported by the process that runs these tests, as it takes seconds."""
    import diffusers

    return diffusers


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(1))


def ema_update(scheduler: object, net: torch.nn.Module, noise: Tensor) -> Tensor:
    """Sample as a diffusers pipeline does with a preconditioned network."""
    x = noise * 80.0
    for t in scheduler.timesteps:  # type: ignore[attr-defined]
        scaled = scheduler.scale_model_input(x, t)  # type: ignore[attr-defined]
        x = scheduler.step(net(scaled, t.float().expand(len(x)), None, None), t, x).prev_sample  # type: ignore[attr-defined]
    return x


@pytest.mark.parametrize("steps", [4, 18])
def test_edm_grid_and_euler(diffusers: Any, steps: int, noise: Tensor) -> None:
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0)
    scheduler.set_timesteps(steps)
    grid = karras_grid(steps, 0.002, 80.0)
    torch.testing.assert_close(scheduler.sigmas[:-1].float(), grid, rtol=1e-5, atol=0)
    ours = sample_ode(Denoiser(TanhNet(), VE), noise, grid, solver="euler")
    torch.testing.assert_close(ours, ema_update(scheduler, TanhNet(), noise), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_dpm_solver_on_the_edm_path(diffusers: Any, steps: int, noise: Tensor) -> None:
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(
        sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0, solver_order=2, solver_type="midpoint"
    )
    scheduler.set_timesteps(steps)
    ours = sample_ode(Denoiser(TanhNet(), VE), noise, karras_grid(steps, 0.002, 80.0), solver="dpmpp2m")
    torch.testing.assert_close(ours, ema_update(scheduler, TanhNet(), noise), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [3, 10])
def test_dpm_solver_on_the_variance_preserving_path(diffusers: Any, steps: int, noise: Tensor) -> None:
    """Their discrete noise levels, read on our continuous path."""
    path = PATHS["vp"]
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="sample", algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    grid = path.time_at(scheduler.sigmas[:-1].double())
    denoiser, noise = GaussianDenoiser(path), noise.double()
    x = path.sigma(grid[0]) * noise
    for t, ours in zip(scheduler.timesteps, grid, strict=True):
        x = scheduler.step(denoiser(x, ours.expand(len(x))), t, x).prev_sample
    got = sample_ode(denoiser, noise, grid, solver="dpmpp2m")
    torch.testing.assert_close(got, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_steps_of_the_discrete_schedulers(diffusers: Any, solver: str, noise: Tensor) -> None:
    kind = {"heun": diffusers.HeunDiscreteScheduler, "euler": diffusers.EulerDiscreteScheduler}[solver]
    scheduler = kind(use_karras_sigmas=True)
    scheduler.set_timesteps(6)
    levels = scheduler.sigmas[scheduler.sigmas > 0]
    grid = torch.unique_consecutive(levels).float()
    assert len(grid) == 6
    denoiser = Denoiser(TanhNet(), VE)
    x = noise * grid[0]
    for i, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[i].float()
        estimate = denoiser(x, sigma.expand(len(x)))
        x = scheduler.step((x - estimate) / sigma, t, x).prev_sample
    ours = sample_ode(denoiser, noise, grid, solver=solver)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.002, 0.01, 0.5, 10.0, 80.0])
def test_consistency_scalings(diffusers: Any, sigma: float) -> None:
    scheduler = diffusers.CMStochasticIterativeScheduler(num_train_timesteps=40)
    skip, out = scheduler.get_scalings_for_boundary_condition(torch.tensor([sigma], dtype=torch.float64))
    x, t = torch.full((1, 1), 1.3, dtype=torch.float64), torch.tensor([sigma], dtype=torch.float64)
    net = WavyNet()
    wanted = skip * x + out * net(x / (sigma**2 + 0.25) ** 0.5, t.log() / 4, None, None)
    torch.testing.assert_close(ConsistencyModel(net, VE)(x, t), wanted)


@pytest.mark.parametrize("indices", [[0], [0, 22], [0, 17, 39], [0, 10, 20, 30]])
def test_consistency_sampling(diffusers: Any, indices: list[int], noise: Tensor) -> None:
    """One step and several, with the noise that is added back drawn from the same generator."""
    scheduler = diffusers.CMStochasticIterativeScheduler(num_train_timesteps=40, clip_denoised=False)
    scheduler.set_timesteps(timesteps=indices[::-1])
    theirs, net = noise * 80.0, WavyNet()
    generator = torch.Generator().manual_seed(4)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(theirs, t)
        answer = net(scaled, (t / 1000).float().expand(2), None, None)
        theirs = scheduler.step(answer, t, theirs, generator=generator).prev_sample
    ours = sample_multistep(
        ConsistencyModel(net, VE),
        noise,
        karras_grid(40, 0.002, 80.0)[indices],
        generator=torch.Generator().manual_seed(4),
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
