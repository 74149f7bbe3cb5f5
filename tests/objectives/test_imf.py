"""Improved MeanFlow: its loss on Gaussian data is the posterior variance, its derivative follows the student itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from planar import train
from two_times import (
    LINEAR,
    STD,
    TOY,
    GaussianFlowMap,
    GivenPairs,
    LabelledNet,
    TwoTimesNet,
    gaussian_data,
    judge,
    loss_and_slope,
    shares_add_up,
)
from unistep.core.flowmap import FlowMap
from unistep.core.path import Path, TrigFlow
from unistep.objectives.imf import IMFConfig, ImprovedMeanFlow
from unistep.objectives.meanflow import MeanFlow, MeanFlowConfig, TargetGuidance
from unistep.objectives.time_pairs import LogitNormalPairs


@pytest.mark.parametrize("r", [0.2, 0.6])
def test_the_exact_map_leaves_the_posterior_variance_and_no_gradient(path: Path, r: float) -> None:
    r"""Whatever ``r`` is, :math:`V` is the velocity of the ODE; MeanFlow's loss depends on ``r``."""
    student, x0 = GaussianFlowMap(path), gaussian_data(40_000)
    law = GivenPairs(t=(0.6,) * len(x0), r=(r,) * len(x0))
    objective = ImprovedMeanFlow(student, IMFConfig(times=law, power=0.0))
    loss, slope = loss_and_slope(objective, student, x0)
    t = path.time_at(torch.tensor(1.5, dtype=torch.float64))
    alpha, sigma, d_alpha, d_sigma = (f(t).item() for f in (path.alpha, path.sigma, path.d_alpha, path.d_sigma))
    variance = (STD * (d_alpha * sigma - alpha * d_sigma)) ** 2 / ((alpha * STD) ** 2 + sigma**2)
    assert loss.mean().item() == pytest.approx(4 * variance, rel=0.02)
    with torch.no_grad():
        student.gain.fill_(0.8)
    _, wrong_slope = loss_and_slope(objective, student, x0)
    assert wrong_slope < 0
    assert abs(slope) < 0.05 * abs(wrong_slope)


def test_at_equal_times_it_is_meanflow(path: Path) -> None:
    """Both are flow matching there."""
    torch.manual_seed(0)
    student, x0 = FlowMap(TwoTimesNet(16).double(), path), gaussian_data(16, size=2)
    law = LogitNormalPairs(distinct=0.0)
    results = []
    for objective in (
        MeanFlow(student, MeanFlowConfig(times=law, power=0.3)),
        ImprovedMeanFlow(student, IMFConfig(times=law, power=0.3)),
    ):
        loss = objective(x0, {}, generator=torch.Generator().manual_seed(5), progress=0.0).per_example
        results.append([loss, *torch.autograd.grad(loss.mean(), list(student.parameters()))])
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_the_derivative_follows_the_students_own_velocity(weight: float) -> None:
    """With a guidance weight w the target is v + (1 - 1/w) (u(z, t, t | c) - u(z, t, t)), the paper's at a fixed w."""
    path, h = TrigFlow(), 1e-5
    student, x0 = FlowMap(LabelledNet(), path), gaussian_data(5)
    condition = {"label": torch.tensor([1, 2, -1, 0, 1])}
    law = GivenPairs(t=(0.9, 0.7, 0.5, 0.4, 0.3), r=(0.1, 0.2, 0.05, 0.4, 0.1))
    guidance = TargetGuidance(omega=1.0, kappa=1 - 1 / weight)
    config = IMFConfig(times=law, power=0.0, guidance=guidance, label_dropout=1e-9)
    got = ImprovedMeanFlow(student, config)(x0, condition, generator=torch.Generator().manual_seed(2), progress=0.0)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2)).to(x0)
    t, r = (path.time_at(u / (1 - u)) for u in (torch.tensor(v, dtype=torch.float64) for v in (law.t, law.r)))
    z = path.perturb(x0, noise, t)
    told = student.velocity(z, t, t, condition)
    untold = student.velocity(z, t, t, {"label": torch.full((5,), -1)})
    target = path.velocity(x0, noise, t) + (1 - 1 / weight) * (told - untold)
    ahead, behind = (student.velocity(z + k * told, t + k, r, condition) for k in (h, -h))
    V = student.velocity(z, t, r, condition) + (t - r)[:, None] * (ahead - behind) / (2 * h)
    torch.testing.assert_close(got.per_example, (V - target).square().sum(dim=1), rtol=1e-5, atol=0)
    assert guidance.effective == pytest.approx(weight)


def test_no_gradient_flows_through_the_direction() -> None:
    asked: list[tuple[bool, bool]] = []

    class Spy(FlowMap):
        def velocity(self, x: Tensor, t: Tensor, s: Tensor, condition: object = None) -> Tensor:
            asked.append((torch.is_grad_enabled(), torch.equal(t, s)))
            return super().velocity(x, t, s, condition)  # type: ignore[arg-type]

    objective = ImprovedMeanFlow(Spy(TwoTimesNet(8).double(), LINEAR), IMFConfig())
    objective(gaussian_data(8, size=2), {}, generator=torch.Generator(), progress=0.0)
    assert asked == [(False, True), (True, False)]


@pytest.mark.parametrize("guidance", [TargetGuidance(), TargetGuidance(omega=1.0, kappa=0.5)])
def test_two_processes_have_the_losses_of_one(guidance: TargetGuidance) -> None:
    config = IMFConfig(guidance=guidance, label_dropout=0.3)
    objective = ImprovedMeanFlow(FlowMap(LabelledNet(), LINEAR), config)
    assert shares_add_up(objective, gaussian_data(16), {"label": torch.arange(16) % 4})


def test_under_autocast_every_weight_has_a_gradient() -> None:
    """The direction is computed first and without gradient; its casts must not serve the loss."""
    torch.manual_seed(0)
    student = FlowMap(TwoTimesNet(16), LINEAR)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ImprovedMeanFlow(student, IMFConfig())(
            gaussian_data(32, size=2).float(), {}, generator=torch.Generator(), progress=0.0
        ).per_example
    assert loss.dtype == torch.float32
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in student.parameters())


def test_options() -> None:
    config = IMFConfig()
    assert isinstance(config.build(FlowMap(TwoTimesNet(8), LINEAR), None), ImprovedMeanFlow)
    assert config.times.distinct == 0.5
    with pytest.raises(ValueError, match="label_dropout above 0"):
        IMFConfig(guidance=TargetGuidance(omega=1.0, kappa=0.5))
    with pytest.raises(ValueError, match="power"):
        IMFConfig(power=-0.5)


@pytest.mark.usefixtures("_without_type_checks")
@pytest.mark.timeout(900)  # about ten seconds of CPU, on machines that may be busy
def test_eight_modes_are_found_in_one_step_and_in_two() -> None:
    student = FlowMap(TwoTimesNet(), TOY, boundary=0.0)
    untrained = judge(student, [])
    assert untrained[0] < 0.02
    assert untrained[1] > 0.7
    trained = train(ImprovedMeanFlow(student, IMFConfig(power=0.5, tangent="finite")), student, steps=400)
    for times in ([], [0.5]):
        smallest, outside, same = judge(trained, times)
        assert smallest > 0.03
        assert outside < 0.6
        assert same > 0.8
