"""Objectives on Gaussian data, where the right answer is known: losses vanish, gradients agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from analytic import PATHS, GaussianDenoiser, GaussianFlow
from unistep.core.flowmap import Denoiser
from unistep.core.path import Path, VarianceExploding
from unistep.core.timesteps import ConstantLevels, DiscretisedLogNormal, LogNormal, RatioCurriculum
from unistep.objectives.base import Objective
from unistep.objectives.cd import CDConfig, ConsistencyDistillation
from unistep.objectives.ct import ConsistencyTraining, CTConfig
from unistep.objectives.denoising import Denoising, DenoisingConfig
from unistep.objectives.distance import SquaredL2
from unistep.objectives.ect import EasyConsistencyTuning, ECTConfig

VE = VarianceExploding()


def data(num: int, seed: int = 0, size: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 + 0.7 * torch.randn(num, size, generator=generator, dtype=torch.float64)


def loss_and_slope(objective: Objective, student: GaussianFlow, x0: Tensor, progress: float) -> tuple[float, float]:
    """Average loss and its derivative in the student's gain, at a fixed seed."""
    loss = objective(x0, {}, generator=torch.Generator().manual_seed(1), progress=progress).per_example
    assert loss.shape == (len(x0),)
    (slope,) = torch.autograd.grad(loss.mean(), student.gain)
    return loss.mean().item(), slope.item()


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_distillation_of_the_exact_teacher_is_done_with_the_exact_map(path: Path, solver: str) -> None:
    student = GaussianFlow(path).double()
    config = CDConfig(levels=400, solver=solver)  # type: ignore[arg-type]
    objective = ConsistencyDistillation(student, GaussianDenoiser(path), config)
    exact, slope = loss_and_slope(objective, student, data(2000), 0.0)
    with torch.no_grad():
        student.gain.fill_(0.8)
    wrong, wrong_slope = loss_and_slope(objective, student, data(2000), 0.0)
    assert exact < 1e-7 if solver == "heun" else exact < 1e-5
    assert wrong > 10 * exact
    assert abs(slope) < 0.05 * abs(wrong_slope)
    assert wrong_slope < 0  # a larger gain would be better


def test_distillation_error_falls_with_the_order_of_the_solver() -> None:
    def loss(solver: str, levels: int) -> float:
        config = CDConfig(levels=levels, solver=solver)  # type: ignore[arg-type]
        student = GaussianFlow(VE).double()
        objective = ConsistencyDistillation(student, GaussianDenoiser(VE), config)
        return loss_and_slope(objective, student, data(4000), 0.0)[0]

    # The squared distance of one step of length h is h^4 for Euler, h^6 for Heun.
    assert loss("euler", 40) / loss("euler", 80) == pytest.approx(2**4, rel=0.25)
    assert loss("heun", 40) / loss("heun", 80) == pytest.approx(2**6, rel=0.4)


def test_training_on_data_has_the_gradient_of_distillation_with_the_exact_teacher() -> None:
    """Song et al. 2023, theorem 2: the Euler target and the shared noise differ by noise of mean zero.

    For Gaussian data the map is linear in the point, so the two gradients have the same expectation exactly.
    """
    student, x0 = GaussianFlow(VE).double(), data(100_000, size=1)
    with torch.no_grad():
        student.gain.fill_(0.9)
    law = DiscretisedLogNormal()
    on_data = ConsistencyTraining(student, CTConfig(curriculum=ConstantLevels(num=12), law=law, distance=SquaredL2()))
    on_ode = ConsistencyDistillation(student, GaussianDenoiser(VE), CDConfig(levels=12, solver="euler", law=law))
    loss_data, slope_data = loss_and_slope(on_data, student, x0, 0.0)
    loss_ode, slope_ode = loss_and_slope(on_ode, student, x0, 0.0)
    assert slope_data == pytest.approx(slope_ode, rel=0.05)
    assert loss_data > loss_ode + 1e-3  # the noise of mean zero


@pytest.mark.parametrize("progress", [0.3, 0.9])
def test_tuning_on_data_has_the_gradient_of_tuning_along_the_exact_ode(progress: float) -> None:
    student, x0 = GaussianFlow(VE, boundary=0.0).double(), data(100_000, size=1)
    with torch.no_grad():
        student.gain.fill_(0.9)
    slopes = []
    for target in ("data", "euler"):
        config = ECTConfig(
            times=LogNormal(mean=-0.5, std=1.0),
            curriculum=RatioCurriculum(k=1.0, stages=4),  # no level closer than the data itself: r > 0 always
            distance=SquaredL2(),
            weighting="inverse_gap",
            target=target,  # type: ignore[arg-type]
        )
        objective = EasyConsistencyTuning(student, GaussianDenoiser(VE), config)
        slopes.append(loss_and_slope(objective, student, x0, progress)[1])
    assert slopes[0] == pytest.approx(slopes[1], rel=0.06)


def test_tuning_along_the_ode_ends_at_the_exact_map(path: Path) -> None:
    student = GaussianFlow(path, boundary=0.0).double()
    config = ECTConfig(
        times=LogNormal(mean=-0.5, std=1.0),
        curriculum=RatioCurriculum(stages=10),
        distance=SquaredL2(),
        weighting="one",
        target="heun",
    )
    objective = EasyConsistencyTuning(student, GaussianDenoiser(path), config)
    exact, slope = loss_and_slope(objective, student, data(2000), 1.0)
    with torch.no_grad():
        student.gain.fill_(0.8)
    wrong, wrong_slope = loss_and_slope(objective, student, data(2000), 1.0)
    assert exact < 1e-10
    assert wrong > 1e3 * exact
    assert abs(slope) < 0.02 * abs(wrong_slope)


def test_tuning_starts_as_denoising() -> None:
    """At stage 0 with r = 0 the target is the data whatever the student is."""
    student, x0 = GaussianFlow(VE, boundary=0.0), data(64).float()
    config = ECTConfig(
        times=LogNormal(mean=-3.0, std=0.1),
        curriculum=RatioCurriculum(),
        distance=SquaredL2(),
        weighting="one",
    )
    seen: list[Tensor] = []

    def metric(answer: Tensor, wanted: Tensor) -> Tensor:
        seen.append(wanted)
        return SquaredL2()(answer, wanted)

    for target in ("data", "heun"):
        objective = EasyConsistencyTuning(
            student, GaussianDenoiser(VE), ECTConfig(**{**vars(config), "target": target}), metric
        )
        loss = objective(x0, {}, generator=torch.Generator().manual_seed(0), progress=0.0)
        torch.testing.assert_close(seen[-1], x0, rtol=0, atol=1e-6)
        assert loss.per_example.isfinite().all()


class Scaled(GaussianDenoiser):
    """The exact denoiser, times a trainable number."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gain = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        return self.gain * super().forward(x, t)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_the_exact_denoiser_has_no_gradient_and_the_posterior_variance_as_loss(name: str) -> None:
    """E|D - x0|^2 at noise level sigma is s^2 sigma^2 / (s^2 + sigma^2); the weight is EDM's, on every path."""
    denoiser = Scaled(PATHS[name])
    config = DenoisingConfig(times=LogNormal(mean=-0.4, std=0.01), label_dropout=0.0)
    objective = Denoising(denoiser, config)
    x0 = data(20_000)
    loss = objective(x0, {}, generator=torch.Generator().manual_seed(0), progress=0.0).per_example
    sigma = torch.tensor(-0.4).exp().item()
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    assert loss.mean().item() == pytest.approx(weight * 0.49 * sigma**2 / (0.49 + sigma**2), rel=0.02)
    (slope,) = torch.autograd.grad(loss.mean(), denoiser.gain)
    with torch.no_grad():
        denoiser.gain.fill_(1.1)
    worse = objective(x0, {}, generator=torch.Generator().manual_seed(0), progress=0.0).per_example
    (wrong_slope,) = torch.autograd.grad(worse.mean(), denoiser.gain)
    assert abs(slope.item()) < 0.1 * abs(wrong_slope.item())
    assert isinstance(denoiser, Denoiser)
