"""Continuous-time consistency: the exact map has no tangent, discrete tuning tends to it, and it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analytic import PATHS, GaussianDenoiser, GaussianNet, MixtureDenoiser, PlanarNet
from planar import MEANS, NOISE, WIDTH, agreement, ode_modes, shares, train
from unistep.core.condition import Label
from unistep.core.flowmap import ConsistencyModel, Denoiser, GuidedDenoiser, c_noise
from unistep.core.path import Path, TrigFlow, VarianceExploding, expand_to, match_snr
from unistep.core.sampling import sample_one_step
from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.objectives.base import Loss
from unistep.objectives.distance import SquaredL2
from unistep.objectives.ect import EasyConsistencyTuning, ECTConfig
from unistep.objectives.scm import AdaptiveWeight, ContinuousConsistency, SCMConfig
from unistep.objectives.tangent import value_and_tangent
from unistep.training.checkpoint import TrainingState
from unistep.training.optim import AdamConfig, MuonConfig, OptimizerConfig, build_optimizer

TRIG, STD = TrigFlow(), 0.7
BARE: dict[str, Any] = {"normalisation": "none", "adaptive": False, "warmup": 0.0}
"""The tangent as it is: the loss is its mean square."""


class ExactNet(nn.Module):
    r"""Makes the consistency model on TrigFlow exact for :math:`N(0, s^2)`; ``gain`` is 1 for the exact map.

    :math:`f = s x_t/\sqrt{v_t} = \cos t\,x_t + \sigma_d \sin t\,F` gives :math:`F`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        t = expand_to(TRIG.time_at((4 * t).exp()), x)
        v = (t.cos() * STD).square() + (0.5 * t.sin()).square()
        return self.gain * (STD / v.sqrt() - t.cos()) / t.sin() * x


def student(net: nn.Module) -> ConsistencyModel:
    return ConsistencyModel(net, TRIG, 0.5, boundary=0.0)


def data(num: int, size: int = 4) -> Tensor:
    return STD * torch.randn(num, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def run(objective: ContinuousConsistency, x0: Tensor, progress: float = 1.0, seed: int = 1) -> Loss:
    return objective(x0, {}, generator=torch.Generator().manual_seed(seed), progress=progress)


def loss_and_slope(objective: ContinuousConsistency, gain: nn.Parameter, x0: Tensor) -> tuple[float, float]:
    loss = run(objective, x0).per_example
    assert loss.shape == (len(x0),)
    (slope,) = torch.autograd.grad(loss.mean(), gain)
    return loss.mean().item(), slope.item()


@pytest.mark.parametrize("derivative", ["exact", "finite"])
def test_the_exact_map_has_no_tangent_along_the_teachers_ode(path: Path, derivative: str) -> None:
    """The teacher lives on any path and is read on the student's."""
    net, teacher = ExactNet(), GaussianDenoiser(path, 0.0, STD)
    config = SCMConfig(target="teacher", derivative=derivative, **BARE)  # type: ignore[arg-type]
    objective = ContinuousConsistency(student(net), teacher, config)
    exact, slope = loss_and_slope(objective, net.gain, data(500))
    with torch.no_grad():
        net.gain.fill_(0.8)
    wrong, wrong_slope = loss_and_slope(objective, net.gain, data(500))
    assert exact < (1e-20 if derivative == "exact" else 1e-9)
    assert abs(slope) < (1e-9 if derivative == "exact" else 1e-4)
    assert wrong > 1e-3
    assert wrong_slope < -1e-2  # a larger gain would be better


def test_on_data_the_gradient_is_that_along_the_exact_teachers_ode() -> None:
    """For Gaussian data everything is linear, so the two gradients have the same expectation exactly."""
    net, slopes = ExactNet(), []
    with torch.no_grad():
        net.gain.fill_(0.8)
    for target in ("data", "teacher"):
        config = SCMConfig(target=target, **BARE)  # type: ignore[arg-type]
        objective = ContinuousConsistency(student(net), GaussianDenoiser(TRIG, 0.0, STD), config)
        slopes.append(loss_and_slope(objective, net.gain, data(200_000, size=1))[1])
    assert slopes[0] == pytest.approx(slopes[1], rel=0.03)
    with torch.no_grad():
        net.gain.fill_(1.0)
    config = SCMConfig(**BARE)
    done = loss_and_slope(ContinuousConsistency(student(net), None, config), net.gain, data(200_000, size=1))[1]
    assert abs(done) < 0.05 * abs(slopes[1])


@pytest.mark.parametrize("target", ["data", "teacher"])
def test_easy_tuning_with_a_small_gap_has_this_gradient(target: str) -> None:
    r"""With a gap of :math:`\Delta t` its squared distance has :math:`\Delta t\,\sigma_d\tan t` times the gradient.

    Example by example, with the same draws: both ask for the noise levels first and for the noise next.
    """
    torch.manual_seed(0)
    model, x0 = student(PlanarNet(16).double()), data(32, size=2)
    teacher = GaussianDenoiser(TRIG, 0.1, STD)
    law = LogNormal(mean=-1.0, std=1.4)
    continuous = ContinuousConsistency(model, teacher, SCMConfig(times=law, target=target, **BARE))  # type: ignore[arg-type]
    curriculum = RatioCurriculum(k=0.0, q=2.0, stages=19)
    easy = EasyConsistencyTuning(
        model,
        teacher,
        ECTConfig(
            times=law, curriculum=curriculum, distance=SquaredL2(), weighting="one",
            target="data" if target == "data" else "euler",
        ),
    )  # fmt: skip
    sigma = law.draw(len(x0), torch.Generator().manual_seed(1)).double()
    t, r = TRIG.time_at(sigma), TRIG.time_at(curriculum.closer(sigma, 1.0))
    weights = torch.rand(len(x0), dtype=torch.float64)
    discrete = easy(x0, {}, generator=torch.Generator().manual_seed(1), progress=1.0).per_example / (
        (t - r) * 0.5 * t.tan()
    )
    limit = run(continuous, x0).per_example
    parameters = list(model.parameters())
    theirs = torch.autograd.grad((weights * discrete).sum(), parameters)
    ours = torch.autograd.grad((weights * limit).sum(), parameters)
    assert max(float(g.abs().max()) for g in ours) > 0.1
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_without_its_second_half_the_tangent_trains_a_denoiser() -> None:
    """At the start of the warm-up the exact denoiser has no tangent, at its end it has one."""
    config = SCMConfig(target="teacher", **{**BARE, "warmup": 0.2})
    objective = ContinuousConsistency(student(GaussianNet(STD)), GaussianDenoiser(TRIG, 0.0, STD), config)
    losses = [run(objective, data(100), progress).per_example.mean().item() for progress in (0.0, 0.1, 0.2, 0.7)]
    assert losses[0] < 1e-20
    assert losses[2] == losses[3] == pytest.approx(4 * losses[1])  # it is proportional to r
    assert losses[3] > 1e-3
    assert run(objective, data(4), 0.05).logs["scm/warmup"].item() == 0.25


def test_the_time_code_moves_at_a_quarter_at_every_noise_level() -> None:
    ratio = torch.logspace(-4, 4, 41).double()
    ends = torch.tensor([TRIG.t_min, TRIG.t_max])
    for t in (TRIG.time_at(ratio.float()), TRIG.time_at(ratio), ends):
        rate = t.cos() * t.sin()
        _, moved = value_and_tangent(lambda t: c_noise(TRIG, t), (t,), (rate,))
        # Near pi/2 the cosine of a float32 time is known to 4e-8.
        torch.testing.assert_close(moved, torch.full_like(t, 0.25), rtol=1e-3, atol=0)
    beyond = TRIG.time_at(torch.tensor([1e-6, 1e-5, 1e5, 1e6]).double())
    _, moved = value_and_tangent(lambda t: c_noise(TRIG, t), (beyond,), (beyond.cos() * beyond.sin(),))
    assert moved.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("mean", [-14.0, -9.0, 9.0, 14.0])
@pytest.mark.parametrize("target", ["data", "teacher"])
def test_the_ends_of_the_time_axis_are_finite(mean: float, target: str) -> None:
    torch.manual_seed(0)
    model = student(PlanarNet(16))
    config = SCMConfig(times=LogNormal(mean=mean, std=1.0), target=target, warmup=0.0)  # type: ignore[arg-type]
    objective = ContinuousConsistency(model, GaussianDenoiser(VarianceExploding(), 0.0, STD), config)
    loss = run(objective, data(64, size=2).float()).per_example
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters() if p.requires_grad)


@pytest.mark.parametrize("size", [2, 50])
def test_normalised_tangents(size: int) -> None:
    model, x0 = student(PlanarNet(16) if size == 2 else GaussianNet(STD)), 3 * data(16, size)

    def losses(**options: Any) -> Tensor:
        objective = ContinuousConsistency(model.double(), None, SCMConfig(**{**BARE, **options}))
        return run(objective, x0).per_example

    norm = (size * losses()).sqrt()
    torch.testing.assert_close(losses(normalisation="norm"), (norm / (norm + 0.1)).square() / size)
    torch.testing.assert_close(losses(normalisation="norm", c=2.0), (norm / (norm + 2)).square() / size)
    clipped = losses(normalisation="clip")
    assert (clipped <= 1).all()
    assert (clipped <= losses() + 1e-12).all()
    assert (clipped < losses()).any()


def test_the_learned_weight_evens_the_noise_levels_out() -> None:
    r"""It tends to :math:`-\ln L(t)` and starts at 0."""
    weight, code = AdaptiveWeight(), torch.linspace(-1.0, 1.0, 64)
    loss = (2 * code).exp() + 0.1
    assert weight(code).tolist() == [0.0] * 64
    optimizer = torch.optim.Adam(weight.parameters(), lr=0.02)
    for _ in range(1500):
        w = weight(code)
        optimizer.zero_grad()
        (w.exp() * loss - w).mean().backward()
        optimizer.step()
    torch.testing.assert_close(weight(code), -loss.log(), rtol=0, atol=0.15)


def test_the_weight_scales_the_loss_and_has_a_gradient_of_its_own() -> None:
    torch.manual_seed(0)
    model, x0 = student(PlanarNet(16).double()), data(8, size=2)
    bare = run(ContinuousConsistency(model, None, SCMConfig(warmup=0.0, adaptive=False)), x0).per_example
    objective = ContinuousConsistency(model, None, SCMConfig(warmup=0.0))
    assert objective.weight is not None
    with torch.no_grad():
        objective.weight.out.bias.fill_(0.5)
    loss = run(objective, x0).per_example
    torch.testing.assert_close(loss, math.exp(0.5) * bare - 0.5)
    loss.sum().backward()
    assert objective.weight.out.bias.grad is not None
    assert objective.weight.out.bias.grad.item() == pytest.approx(
        float((math.exp(0.5) * bare.detach() - 1).sum()), rel=1e-5
    )


@pytest.mark.parametrize("optimizer", [AdamConfig(), MuonConfig()])
def test_the_weight_is_trained_saved_and_restored(optimizer: OptimizerConfig) -> None:
    torch.manual_seed(0)

    def build() -> TrainingState:
        objective = ContinuousConsistency(student(PlanarNet(16)), None, SCMConfig())
        return TrainingState(objective, build_optimizer(optimizer, objective.student.net, objective), [])

    state = build()
    for _ in range(2):
        state.module.zero_grad()
        run(state.module, data(8, size=2).float()).per_example.mean().backward()  # type: ignore[arg-type]
        state.optimizer.step()
    saved = state.gather()
    assert saved.files["weights"]["weight.out.bias"].item() != 0
    other = build()
    other.restore(saved)
    again = other.gather()
    assert saved.files["weights"].keys() == again.files["weights"].keys()
    for name in saved.files:
        for key, value in saved.files[name].items():
            assert torch.equal(value, again.files[name][key])


def test_under_autocast_the_loss_is_float32_and_close() -> None:
    torch.manual_seed(0)
    objective = ContinuousConsistency(student(PlanarNet(64)), None, SCMConfig(warmup=0.0, normalisation="none"))
    full = run(objective, data(64, size=2).float()).per_example
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = run(objective, data(64, size=2).float()).per_example
    assert rounded.dtype == torch.float32
    assert float((rounded - full).detach().norm() / full.detach().norm()) < 0.02
    rounded.mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in objective.student.parameters())


class ConditionValue(nn.Module):
    """A raw network that depends on its label."""

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: dict[str, Label]) -> Tensor:
        return 0.3 * (x + 0.2 * expand_to(condition["label"].index, x)).tanh()


def test_a_guided_teacher_gives_the_velocity_of_its_guided_ode() -> None:
    teacher = Denoiser(ConditionValue(), VarianceExploding())
    config = SCMConfig(target="teacher", guidance=2.5)
    objective = ContinuousConsistency(student(ConditionValue()), teacher, config)
    x, t, condition = data(3), torch.tensor([0.2, 0.8, 1.5]).double(), {"label": Label(torch.tensor([0, 1, 2]))}
    velocity = objective.velocity(x, x, x, t, condition)
    # Along the ODE, in coordinates of the teacher's path: a small step there and back.
    guided, h = GuidedDenoiser(teacher, 2.5), 1e-5
    there, level = match_snr(x, t, TRIG, teacher.path)
    target = teacher.path.time_at(TRIG.ratio(t + h))
    slope = (there - guided(there, level, None, condition)) / level[:, None]
    back, _ = match_snr(there + (target - level)[:, None] * slope, target, teacher.path, TRIG)
    torch.testing.assert_close(velocity, (back - x) / h, rtol=2e-3, atol=1e-3)
    assert not torch.allclose(
        velocity,
        ContinuousConsistency(student(ConditionValue()), teacher, SCMConfig(target="teacher")).velocity(
            x, x, x, t, condition
        ),
        rtol=1e-2,
    )


def test_dropped_labels_reach_the_network() -> None:
    seen: list[Tensor] = []

    class Listens(ConditionValue):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: dict[str, Label]) -> Tensor:
            seen.append(condition["label"].index)
            return super().forward(x, t, s, condition)

    objective = ContinuousConsistency(student(Listens()), None, SCMConfig(label_dropout=0.5, adaptive=False))
    objective(data(200), {"label": torch.ones(200).long()}, generator=torch.Generator().manual_seed(0), progress=0.5)
    assert len(seen) == 1  # one pass
    assert 60 < int((seen[0] == -1).sum()) < 140


@pytest.mark.usefixtures("_without_type_checks")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": 1.5}, "share of the training, 0 to 1, got 1.5"),
        ({"c": 0.0}, "c must be positive, got 0.0"),
        ({"target": "date"}, "one of data, teacher, got 'date'"),
        ({"normalisation": "l2"}, "one of norm, clip, none, got 'l2'"),
        ({"derivative": "exakt"}, "derivative must be one of exact, finite"),
        ({"step": 0.0}, "step must be positive"),
        ({"guidance": 2.0}, "guidance 2 needs a teacher to guide, and target 'data'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SCMConfig(**options)


def test_other_students_are_refused() -> None:
    for name in sorted(PATHS.keys() - {"trig"}):
        with pytest.raises(ValueError, match="path TrigFlow"):
            SCMConfig().build(ConsistencyModel(nn.Identity(), PATHS[name], 0.5, 0.0), None)
    with pytest.raises(ValueError, match="boundary 0"):
        SCMConfig().build(ConsistencyModel(nn.Identity(), TRIG, 0.5), None)
    with pytest.raises(ValueError, match=r"sigma_data 0\.7"):
        SCMConfig().build(ConsistencyModel(nn.Identity(), TRIG, 0.7, 0.0), None)
    with pytest.raises(ValueError, match="needs a teacher"):
        SCMConfig(target="teacher").build(student(nn.Identity()), None)


PLAIN = {"normalisation": "none", "adaptive": False}
"""In two dimensions the tangent is of the size of ``c``, and there is little to even out."""


@pytest.mark.timeout(900)  # about ten seconds of CPU each, on machines that may be busy
@pytest.mark.usefixtures("_without_type_checks")
@pytest.mark.parametrize(
    ("target", "options"), [("data", {"adaptive": False}), ("teacher", {**PLAIN, "derivative": "finite"})]
)
def test_eight_modes_are_found_in_one_step(target: str, options: dict[str, Any]) -> None:
    """The teacher is on the path of EDM, the student learns on TrigFlow."""
    edm = VarianceExploding()

    @torch.no_grad()
    def judge(model: ConsistencyModel) -> tuple[float, float, float]:
        """Smallest share of a mode, share outside all modes, share in the mode that the ODE leads to."""
        x = sample_one_step(model, NOISE)
        return *shares(x), agreement(x, ode_modes(edm, 80.0))

    model = student(PlanarNet(64))
    config = SCMConfig(target=target, times=LogNormal(mean=-0.6, std=1.7), warmup=0.3, **options)  # type: ignore[arg-type]
    objective = ContinuousConsistency(model, MixtureDenoiser(edm, MEANS, WIDTH), config)
    untrained = judge(model)
    assert untrained[0] < 0.02
    assert untrained[1] > 0.8
    smallest, outside, same = judge(train(objective, model, steps=500, batch=512))
    assert smallest > 0.02
    assert outside < 0.65
    assert same > 0.8
