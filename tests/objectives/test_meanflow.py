"""MeanFlow from data and from a teacher: exact on Gaussian data, flow matching at r = t, guided as the paper says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from analytic import GaussianDenoiser, MixtureDenoiser
from planar import MEANS, WIDTH, train
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
from unistep.core.condition import Scalar
from unistep.core.flowmap import Denoiser, FlowMap, GuidedDenoiser
from unistep.core.path import LinearFlow, Path, TrigFlow, VarianceExploding, expand_to
from unistep.core.seeding import randn_like
from unistep.objectives.meanflow import (
    MeanFlow,
    MeanFlowConfig,
    MeanFlowDistillation,
    MeanFlowDistillationConfig,
    TargetGuidance,
)
from unistep.objectives.time_pairs import LogitNormalPairs, TimePairs, UniformPairs, pair_on_path


@pytest.fixture
def _without_type_checks() -> Iterator[None]:
    """They take as long as the small networks do, and refuse bad words before the options can."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("power", [0.0, 0.75])
def test_distillation_of_the_exact_teacher_is_done_with_the_exact_map(path: Path, power: float) -> None:
    student, teacher = GaussianFlowMap(path, boundary=0.0), GaussianDenoiser(VarianceExploding())
    config = MeanFlowDistillationConfig(power=power, times=LogitNormalPairs(mean_r=-2.0))
    objective = MeanFlowDistillation(student, teacher, config)
    exact, slope = loss_and_slope(objective, student, gaussian_data(500))
    with torch.no_grad():
        student.gain.fill_(0.8)
    wrong, wrong_slope = loss_and_slope(objective, student, gaussian_data(500))
    # Near the data the velocity of the variance-preserving path is in the thousands, and so is its rounding.
    assert exact.max() < 1e-10 * max(1.0, wrong.max().item())
    assert abs(slope) < 1e-6 * abs(wrong_slope)
    assert wrong.min() > 0
    assert wrong_slope < 0  # a larger gain would be better


def posterior_variance(path: Path, t: Tensor) -> Tensor:
    r"""Variance of the velocity given the point, :math:`s^2 (\dot\alpha\sigma - \alpha\dot\sigma)^2 / v_t`."""
    alpha, sigma, d_alpha, d_sigma = (f(t) for f in (path.alpha, path.sigma, path.d_alpha, path.d_sigma))
    return (STD * (d_alpha * sigma - alpha * d_sigma)).square() / ((alpha * STD).square() + sigma.square())


def test_from_data_the_exact_map_has_the_least_loss_and_no_gradient(path: Path) -> None:
    r"""With the exact map :math:`\Delta = -\sqrt{v_r/v_t}\,(v - E[v|z])`: what the data's noise leaves."""
    t, r = torch.tensor([[0.6], [0.2]], dtype=torch.float64)
    student, x0 = GaussianFlowMap(path), gaussian_data(40_000)
    law = GivenPairs(t=(0.6,) * len(x0), r=(0.2,) * len(x0))
    objective = MeanFlow(student, MeanFlowConfig(times=law, power=0.0))
    loss, slope = loss_and_slope(objective, student, x0)
    t, r = (path.time_at(u / (1 - u)) for u in (t, r))
    v_t, v_r = ((path.alpha(u) * STD).square() + path.sigma(u).square() for u in (t, r))
    assert loss.mean().item() == pytest.approx(4 * (posterior_variance(path, t) * v_r / v_t).item(), rel=0.02)
    with torch.no_grad():
        student.gain.fill_(0.8)
    _, wrong_slope = loss_and_slope(objective, student, x0)
    assert wrong_slope < 0
    assert abs(slope) < 0.05 * abs(wrong_slope)


def flow_matching(student: FlowMap, x0: Tensor, law: TimePairs, seed: int) -> Tensor:
    """The squared error of the velocity at ``r = t``, on the draws of the objective."""
    generator = torch.Generator().manual_seed(seed)
    t = student.path.time_at(law.draw(len(x0), generator)[0].to(x0))
    noise = randn_like(x0, generator)
    x_t = expand_to(student.path.alpha(t), x0) * x0 + expand_to(student.path.sigma(t), x0) * noise
    v = expand_to(student.path.d_alpha(t), x0) * x0 + expand_to(student.path.d_sigma(t), x0) * noise
    return (student.velocity(x_t, t, t) - v).square().sum(dim=1)


def test_at_equal_times_it_is_flow_matching(path: Path) -> None:
    torch.manual_seed(0)
    student, x0 = FlowMap(TwoTimesNet(16).double(), path), gaussian_data(32, size=2)
    law = LogitNormalPairs(std=0.8, distinct=0.0)
    wanted = flow_matching(student, x0, law, seed=5)
    gradient = torch.autograd.grad(wanted.mean(), list(student.parameters()))
    objective = MeanFlow(student, MeanFlowConfig(times=law, power=0.0))
    loss = objective(x0, {}, generator=torch.Generator().manual_seed(5), progress=0.0).per_example
    torch.testing.assert_close(loss, wanted, rtol=1e-9, atol=0)
    torch.testing.assert_close(torch.autograd.grad(loss.mean(), list(student.parameters())), gradient)


def test_the_adaptive_weight_is_a_constant_for_the_gradient() -> None:
    r"""The gradient is :math:`\nabla\lVert\Delta\rVert^2 / (\lVert\Delta\rVert^2 + \epsilon)^p`, for each example."""
    torch.manual_seed(0)
    student, x0 = FlowMap(TwoTimesNet(16).double(), LINEAR), gaussian_data(1, size=2)
    law = GivenPairs(t=(0.7,), r=(0.2,))
    found = {}
    for power in (0.0, 0.8):
        objective = MeanFlow(student, MeanFlowConfig(times=law, power=power, eps=0.02))
        loss = objective(x0, {}, generator=torch.Generator().manual_seed(5), progress=0.0).per_example
        found[power] = loss.item(), torch.autograd.grad(loss.mean(), list(student.parameters()))
    weight = (found[0.0][0] + 0.02) ** -0.8
    for gradient, plain in zip(found[0.8][1], found[0.0][1], strict=True):
        torch.testing.assert_close(gradient, weight * plain)


@pytest.mark.parametrize("method", ["exact", "finite"])
def test_the_loss_is_the_identity_with_a_finite_difference_along_the_path(method: str) -> None:
    """Between two moments of one trajectory; the weight is the adaptive one."""
    path, h = TrigFlow(), 1e-5
    student, x0 = FlowMap(LabelledNet(), path), gaussian_data(5)
    condition = {"label": torch.arange(5) % 3}
    law = GivenPairs(t=(0.9, 0.7, 0.5, 0.4, 0.3), r=(0.1, 0.2, 0.05, 0.4, 0.1))
    config = MeanFlowConfig(times=law, power=0.6, eps=0.02, tangent=method, tangent_step=1e-4)  # type: ignore[arg-type]
    loss = MeanFlow(student, config)(x0, condition, generator=torch.Generator().manual_seed(2), progress=0.0)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2)).to(x0)
    t, r = (path.time_at(u / (1 - u)) for u in (torch.tensor(v, dtype=torch.float64) for v in (law.t, law.r)))
    v, z = path.velocity(x0, noise, t), path.perturb(x0, noise, t)
    ahead, behind = (student.velocity(z + k * v, t + k, r, condition) for k in (h, -h))
    target = v - (t - r)[:, None] * (ahead - behind) / (2 * h)
    squared = (student.velocity(z, t, r, condition) - target).square().sum(dim=1)
    torch.testing.assert_close(loss.per_example, squared / (squared + 0.02) ** 0.6, rtol=1e-5, atol=0)
    assert loss.logs["meanflow/error"].item() == pytest.approx(squared.mean().item(), rel=1e-5)
    assert (loss.per_example[[0, 1, 2, 4]] - (squared / (squared + 0.02) ** 0.6)[[1, 2, 4, 0]]).abs().min() > 1e-3


class Spy(FlowMap):
    """A flow map that keeps what its velocity is asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(LabelledNet(), path)
        self.asked: list[tuple[int, bool]] = []

    def velocity(self, x: Tensor, t: Tensor, s: Tensor, condition: object = None) -> Tensor:
        self.asked.append((len(x), torch.is_grad_enabled()))
        return super().velocity(x, t, s, condition)  # type: ignore[arg-type]


@pytest.mark.parametrize(("omega", "kappa"), [(2.5, 0.0), (0.2, 0.92), (1.0, 0.5)])
def test_guidance_is_mixed_into_the_target_within_its_interval(omega: float, kappa: float) -> None:
    path = TrigFlow()
    student, x0 = Spy(path), gaussian_data(6)
    law = GivenPairs(t=(0.9, 0.7, 0.5, 0.3, 0.6, 0.72), r=(0.1, 0.2, 0.5, 0.1, 0.2, 0.3))
    guidance = TargetGuidance(omega=omega, kappa=kappa, start=0.4, end=0.75)
    config = MeanFlowConfig(times=law, power=0.0, guidance=guidance, label_dropout=1e-9)
    condition = {"label": torch.tensor([1, 2, 0, 1, -1, 3])}
    got = MeanFlow(student, config)(x0, condition, generator=torch.Generator().manual_seed(2), progress=0.0)
    assert student.asked == [(12 if kappa else 6, False), (6, True)]
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2)).to(x0)
    empty = {"label": torch.full((6,), -1)}
    for i, guided in enumerate([False, True, True, False, False, True]):  # late, in, in, early, no label, in
        one, c, no = slice(i, i + 1), {"label": condition["label"][i : i + 1]}, {"label": empty["label"][:1]}
        t, r = (path.time_at(torch.tensor([u[i] / (1 - u[i])], dtype=torch.float64)) for u in (law.t, law.r))
        v, z = path.velocity(x0[one], noise[one], t), path.perturb(x0[one], noise[one], t)
        if guided:
            v = omega * v + kappa * student.velocity(z, t, t, c) + (1 - omega - kappa) * student.velocity(z, t, t, no)
        ahead, behind = (student.velocity(z + k * v, t + k, r, c) for k in (1e-5, -1e-5))
        delta = student.velocity(z, t, r, c) - v + (t - r)[:, None] * (ahead - behind) / 2e-5
        assert got.per_example[i].item() == pytest.approx(delta.square().sum().item(), rel=1e-5)
    assert guidance.effective == pytest.approx(omega / (1 - kappa))


def test_without_conditions_or_weights_guidance_costs_nothing() -> None:
    student, x0 = Spy(LINEAR), gaussian_data(4)
    guided = MeanFlowConfig(guidance=TargetGuidance(omega=2.0), label_dropout=0.1)
    MeanFlow(student, guided)(x0, {}, generator=torch.Generator(), progress=0.0)
    assert student.asked == [(4, True)]  # by the loss itself
    MeanFlow(student, MeanFlowConfig())(x0, {"label": torch.zeros(4)}, generator=torch.Generator(), progress=0.0)
    assert student.asked[1:] == [(4, True)]


def test_labels_are_dropped_in_their_share() -> None:
    seen: list[Tensor] = []

    class Net(LabelledNet):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
            assert isinstance(condition, dict)
            seen.append(condition["label"].index)
            return super().forward(x, t, s, condition)

    objective = MeanFlow(FlowMap(Net(), LINEAR), MeanFlowConfig(label_dropout=0.2))
    objective(gaussian_data(4000), {"label": torch.ones(4000).long()}, generator=torch.Generator(), progress=0.0)
    assert 0.17 < (seen[-1] == -1).double().mean() < 0.23


def test_a_guided_teacher_is_followed_with_its_guidance(path: Path) -> None:
    class Net(LabelledNet):
        """It ignores the missing second time of a denoiser."""

    teacher, x0 = Denoiser(Net(), VarianceExploding()), gaussian_data(6)
    condition = {"label": torch.arange(6) % 3}
    law = GivenPairs(t=(0.9, 0.7, 0.5, 0.3, 0.6, 0.72), r=(0.9, 0.7, 0.5, 0.3, 0.6, 0.72))
    config = MeanFlowDistillationConfig(times=law, power=0.0, guidance=2.0)
    objective = MeanFlowDistillation(FlowMap(LabelledNet(), path), teacher, config)
    loss = objective(x0, condition, generator=torch.Generator().manual_seed(2), progress=0.0).per_example
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2)).to(x0)
    t = path.time_at(torch.tensor([u / (1 - u) for u in law.t], dtype=torch.float64))
    z, eta = path.perturb(x0, noise, t), path.ratio(t)
    x_ve = x0 + eta[:, None] * noise  # the same point on the teacher's path
    denoised = GuidedDenoiser(teacher, 2.0)(x_ve, eta, None, condition)
    v = path.velocity(denoised, (x_ve - denoised) / eta[:, None], t)
    wanted = (objective.student.velocity(z, t, t, condition) - v).square().sum(dim=1)
    torch.testing.assert_close(loss, wanted, rtol=1e-7, atol=1e-10)
    assert not any(p.requires_grad for p in teacher.parameters())


@pytest.mark.parametrize("law", [LogitNormalPairs(), UniformPairs()])
def test_two_processes_have_the_losses_of_one(law: TimePairs) -> None:
    config = MeanFlowConfig(times=law, guidance=TargetGuidance(omega=2.0, kappa=0.3), label_dropout=0.3)
    objective = MeanFlow(FlowMap(LabelledNet(), LINEAR), config)
    assert shares_add_up(objective, gaussian_data(16), {"label": torch.arange(16) % 4})


@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_under_autocast_the_loss_is_float32_and_every_weight_has_a_gradient(kappa: float) -> None:
    torch.manual_seed(0)

    class Net(TwoTimesNet):
        def forward(self, x: Tensor, t: Tensor, s: Tensor, condition: object) -> Tensor:
            assert isinstance(condition, dict)
            return super().forward(x + 0.1 * condition["label"].value[:, None], t, s, None)

    student = FlowMap(Net(16), LINEAR)
    config = MeanFlowConfig(guidance=TargetGuidance(omega=1.5, kappa=kappa), label_dropout=0.1)
    x0, condition = gaussian_data(32, size=2).float(), {"label": torch.ones(32)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = MeanFlow(student, config)(x0, condition, generator=torch.Generator(), progress=0.0).per_example
    assert loss.dtype == torch.float32
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in student.parameters())


def test_logit_normal_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    t, r = LogitNormalPairs(distinct=1.0, mean=0.5, std=0.8, mean_r=-3.0, std_r=1.2).draw(200_000, generator)
    assert (r <= t).all()
    assert t.log().mean().item() == pytest.approx(0.5, abs=0.01)
    assert t.log().std().item() == pytest.approx(0.8, abs=0.01)
    below = math.erf((3.5 / math.hypot(0.8, 1.2)) / math.sqrt(2)) / 2 + 0.5  # chance that r is drawn below t
    assert (r < t).double().mean().item() == pytest.approx(below, abs=0.002)
    t, r = LogitNormalPairs(distinct=1.0, mean_r=-0.6, order="swap").draw(200_000, generator)
    assert (r < t).all()
    both = torch.cat([t, r]).log()
    assert both.mean().item() == pytest.approx(-0.6, abs=0.01)
    assert both.std().item() == pytest.approx(1.6, abs=0.01)
    # The larger of two normal numbers is half a standard deviation over the root of pi above their mean.
    assert t.log().mean().item() == pytest.approx(-0.6 + 1.6 / math.sqrt(math.pi), abs=0.01)


@pytest.mark.parametrize("law", [LogitNormalPairs(mean_r=-0.6, order="swap"), UniformPairs()])
def test_the_share_of_distinct_pairs(law: TimePairs) -> None:
    for distinct in (0.0, 0.25, 1.0):
        t, r = replace(law, distinct=distinct).draw(100_000, torch.Generator().manual_seed(0))
        assert (t != r).double().mean().item() == pytest.approx(distinct, abs=0.005)


def test_uniform_pairs_are_uniform_on_the_straight_path() -> None:
    t, r = (LINEAR.time_at(u) for u in UniformPairs(distinct=1.0).draw(200_000, torch.Generator().manual_seed(0)))
    assert (r <= t).all()
    assert t.mean().item() == pytest.approx(2 / 3, abs=0.003)
    assert r.mean().item() == pytest.approx(1 / 3, abs=0.003)
    levels = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(torch.cat([t, r]).quantile(levels), levels, rtol=0, atol=0.005)


def test_pairs_stay_between_the_ends_that_sampling_uses(path: Path) -> None:
    ratio_t = torch.tensor([1e6, 1.0, 1e-5, 0.5, 1e-5], dtype=torch.float64)
    ratio_r = torch.tensor([1e6, 1e-5, 1e-6, 0.5, 1e-5], dtype=torch.float64)
    for boundary in (0.0, path.t_min):
        t, r = pair_on_path(path, boundary, ratio_t, ratio_r)
        middle = path.time_at(torch.tensor([1.0, 0.5], dtype=torch.float64)).tolist()
        assert t.tolist() == pytest.approx([path.t_max, middle[0], path.t_min, middle[1], path.t_min], rel=1e-6)
        assert r.tolist() == pytest.approx([path.t_max, boundary, boundary, middle[1], path.t_min], rel=1e-6)
    with pytest.raises(ValueError, match="boundary"):
        pair_on_path(path, 100.0, ratio_t, ratio_r)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (LogitNormalPairs, {"distinct": 1.5}, "from 0 to 1, got 1.5"),
        (LogitNormalPairs, {"std": -1.0}, "negative"),
        (LogitNormalPairs, {"order": "sort"}, "order must be one of swap, cut"),
        (UniformPairs, {"distinct": -0.1}, "from 0 to 1"),
        (TargetGuidance, {"omega": 0.0}, "omega must be positive"),
        (TargetGuidance, {"kappa": 1.0}, "kappa in"),
        (TargetGuidance, {"start": 0.5, "end": 0.5}, "start < end"),
        (MeanFlowConfig, {"power": -1.0}, "power"),
        (MeanFlowConfig, {"eps": 0.0}, "eps"),
        (MeanFlowConfig, {"tangent": "numeric"}, "tangent must be one of exact, finite"),
        (MeanFlowConfig, {"label_dropout": 1.0}, "label_dropout"),
        (MeanFlowConfig, {"guidance": TargetGuidance(omega=2.0)}, "label_dropout above 0"),
        (MeanFlowDistillationConfig, {"tangent_step": 0.0}, "tangent_step must be positive"),
    ],
)
@pytest.mark.usefixtures("_without_type_checks")
def test_bad_options_are_refused(kind: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_distillation_needs_a_teacher() -> None:
    student = FlowMap(TwoTimesNet(8), LINEAR)
    with pytest.raises(ValueError, match="--teacher"):
        MeanFlowDistillationConfig().build(student, None)
    built = MeanFlowDistillationConfig().build(student, Denoiser(nn.Identity(), LinearFlow()))
    assert isinstance(built, MeanFlowDistillation)
    assert isinstance(MeanFlowConfig().build(student, None), MeanFlow)
    assert MeanFlowDistillationConfig.starts_from_teacher
    assert not MeanFlowConfig.starts_from_teacher


@pytest.mark.usefixtures("_without_type_checks")
@pytest.mark.timeout(900)  # about ten seconds of CPU each, on machines that may be busy
@pytest.mark.parametrize("kind", ["data", "teacher"])
def test_eight_modes_are_found_in_one_step_and_in_two(kind: str) -> None:
    student = FlowMap(TwoTimesNet(), TOY, boundary=0.0)
    untrained = judge(student, [])
    assert untrained[0] < 0.02
    assert untrained[1] > 0.7
    if kind == "data":
        objective = MeanFlow(student, MeanFlowConfig(power=0.5, tangent="finite"))
    else:
        teacher = MixtureDenoiser(TOY, MEANS, WIDTH)
        config = MeanFlowDistillationConfig(power=0.0, tangent="finite")
        objective = MeanFlowDistillation(student, teacher, config)
    trained = train(objective, student, steps=450)
    for times in ([], [0.5]):
        smallest, outside, same = judge(trained, times)
        assert smallest > 0.03
        assert outside < 0.6
        assert same > 0.8


def test_a_number_below_zero_is_a_condition_like_any_other() -> None:
    student, v, t = Spy(LINEAR), torch.ones(3, 2), torch.full((3,), 0.5)
    objective = MeanFlow(student, MeanFlowConfig(guidance=TargetGuidance(omega=3.0), label_dropout=0.1))
    told = {"strength": Scalar(torch.tensor([0.5, -0.5, torch.nan]))}
    guided = objective.guided(v, t, told, torch.zeros_like(v))
    assert guided[:, 0].tolist() == [3, 3, 1]


def test_a_range_of_weights_needs_no_condition_to_train() -> None:
    config = MeanFlowConfig(guidance_range=(1.0, 4.0), label_dropout=0.1)
    got = MeanFlow(Spy(LINEAR), config)(gaussian_data(4), {}, generator=torch.Generator(), progress=0.0)
    assert got.per_example.isfinite().all()
