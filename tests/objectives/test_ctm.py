"""Consistency trajectory models: exact on Gaussian data, a consistency model at the ends, eight modes in the plane."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from analytic import GaussianDenoiser, GaussianFlow, MixtureDenoiser, PlanarNet, WavyNet
from planar import MEANS, NOISE, WIDTH, shares, train
from two_times import TOY, GaussianFlowMap, TwoTimesNet, gaussian_data, judge, loss_and_slope
from unistep.core.condition import Label
from unistep.core.flowmap import Denoiser, FlowMap, GuidedDenoiser
from unistep.core.path import LinearFlow, Path, VarianceExploding
from unistep.core.sampling import sample_gamma, sample_multistep
from unistep.core.seeding import ShardGenerator
from unistep.core.solvers import heun_step
from unistep.core.timesteps import karras_grid
from unistep.objectives.adversarial import last_weight
from unistep.objectives.cd import CDConfig, ConsistencyDistillation
from unistep.objectives.ctm import (
    ConsistencyTrajectory,
    CTMConfig,
    CTMTrainingConfig,
    OwnDenoiser,
    draw_steps,
)
from unistep.objectives.distance import SquaredL2

VE = VarianceExploding()


@pytest.fixture
def _without_type_checks() -> Iterator[None]:
    """They take as long as the small networks of the toy do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def exact(path: Path, gain: float = 1.0) -> GaussianFlowMap:
    student = GaussianFlowMap(path).double()
    with torch.no_grad():
        student.gain.fill_(gain)
    return student


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_along_the_exact_teacher_the_exact_map_is_consistent(path: Path, solver: str) -> None:
    config = CTMConfig(
        levels=300, max_steps=4, solver=solver, denoising_weight=0.0, target_ema=0.0  # type: ignore[arg-type]
    )  # fmt: skip
    x0 = gaussian_data(1000)
    losses, slopes = [], []
    for gain in (1.0, 0.8):
        student = exact(path, gain)
        loss, slope = loss_and_slope(config.build(student, GaussianDenoiser(path)), student, x0)
        losses.append(loss.mean().item())
        slopes.append(slope)
    assert losses[0] < (1e-7 if solver == "heun" else 1e-4)
    assert losses[1] > 100 * losses[0]
    assert abs(slopes[0]) < 0.05 * abs(slopes[1])
    assert slopes[1] < 0  # a larger gain would be better


def test_the_error_of_the_exact_map_falls_with_the_order_of_the_solver() -> None:
    def loss(solver: str, levels: int) -> float:
        config = CTMConfig(
            levels=levels, max_steps=1, solver=solver, denoising_weight=0.0  # type: ignore[arg-type]
        )  # fmt: skip
        student = exact(VE)
        return (
            loss_and_slope(config.build(student, GaussianDenoiser(VE)), student, gaussian_data(8000))[0].mean().item()
        )

    assert loss("euler", 40) / loss("euler", 80) == pytest.approx(2**4, rel=0.3)
    assert loss("heun", 40) / loss("heun", 80) == pytest.approx(2**6, rel=0.45)


def test_without_a_teacher_the_exact_map_is_its_own(path: Path) -> None:
    """Both terms are at their minimum: the denoising error is the posterior's, its slope and the other's are none."""
    config = CTMTrainingConfig(levels=300, max_steps=2, target_ema=0.0)
    x0 = gaussian_data(100_000, size=1)
    right, wrong = exact(path), exact(path, 0.8)
    _, slope = loss_and_slope(config.build(right, None), right, x0)
    _, wrong_slope = loss_and_slope(config.build(wrong, None), wrong, x0)
    assert abs(slope) < 0.15 * abs(wrong_slope)
    logs = config.build(right, None)(x0, {}, generator=torch.Generator().manual_seed(1), progress=0.0).logs
    assert logs["ctm/consistency"] < 1e-7


def test_the_same_data_and_noise_serve_for_one_short_step() -> None:
    """As in consistency training, the gradient is that of the Euler step of the exact teacher, up to noise."""
    x0, slopes = gaussian_data(50_000, size=1), []
    student = exact(VE, 0.9)
    common = {"levels": 40, "max_steps": 1, "denoising_weight": 0.0, "target_ema": 0.0}
    for objective in (
        CTMTrainingConfig(source="data", **common).build(student, None),  # type: ignore[arg-type]
        CTMConfig(solver="euler", **common).build(student, GaussianDenoiser(VE)),  # type: ignore[arg-type]
    ):
        slopes.append(loss_and_slope(objective, student, x0)[1])
    assert slopes[0] == pytest.approx(slopes[1], rel=0.1)


def test_from_two_levels_it_is_consistency_distillation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the ends of the path as the only levels, ``u`` and ``s`` are the boundary, as in Song et al. 2023."""
    x0, noise = gaussian_data(50), torch.randn(50, 4, dtype=torch.float64)
    for module in ("ctm", "cd"):
        monkeypatch.setattr(f"unistep.objectives.{module}.randn_like", lambda x, generator: noise)
    map_student, student = exact(path, 0.9), GaussianFlow(path).double()
    with torch.no_grad():
        student.gain.fill_(0.9)
    teacher = GaussianDenoiser(path)
    config = CTMConfig(levels=2, denoising_weight=0.0)
    got = config.build(map_student, teacher)(x0, {}, generator=None, progress=0.0).per_example
    wanted = ConsistencyDistillation(student, teacher, CDConfig(levels=2))(
        x0, {}, generator=None, progress=0.0
    ).per_example
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-9)


def test_at_gamma_one_it_samples_as_a_consistency_model(path: Path) -> None:
    noise = torch.randn(30, 4, dtype=torch.float64)
    grid = path.time_at(karras_grid(4, 0.1, 80.0))
    samples = [
        sample(model.double(), noise, grid, generator=torch.Generator().manual_seed(2), **more)  # type: ignore[operator]
        for sample, model, more in (
            (sample_gamma, GaussianFlowMap(path), {"gamma": 1.0}),
            (sample_multistep, GaussianFlow(path), {}),
        )
    ]
    torch.testing.assert_close(samples[0], samples[1], rtol=1e-5, atol=1e-5)


def test_the_denoiser_inside_a_flow_map_is_that_of_its_network(path: Path) -> None:
    class OneTime(nn.Module):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
            return WavyNet()(x, t, None, condition)

    x, t = torch.randn(6, 3), path.time_at(torch.tensor([0.003, 0.05, 0.4, 1.0, 5.0, 60.0]))
    got = OwnDenoiser(FlowMap(OneTime(), path))(x, t)
    torch.testing.assert_close(got, Denoiser(OneTime(), path)(x, t), rtol=1e-3, atol=1e-4)


class Spy(nn.Module):
    """A network with weights that keeps what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(2, 2)
        self.calls: list[tuple[Tensor, Tensor, Tensor | None, object]] = []

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        self.calls.append(((4 * t).exp(), x, None if s is None else (4 * s).exp(), condition))
        return self.body(x)


def spied(**options: object) -> tuple[ConsistencyTrajectory, Spy, Spy, Spy]:
    """An objective with the networks of student, target and teacher."""
    net, teacher = Spy(), Spy()
    config = CTMConfig(**options)  # type: ignore[arg-type]
    objective = config.build(FlowMap(net, VE), Denoiser(teacher, VE))
    assert isinstance(objective.target.net, Spy)
    return objective, net, objective.target.net, teacher


def test_times_are_on_the_grid_and_in_order() -> None:
    grid = karras_grid(6, 0.002, 80.0)
    seen = set()
    for seed in range(40):
        objective, net, target, teacher = spied(levels=6, denoising_weight=0.0)
        objective(torch.zeros(8, 2), {}, generator=torch.Generator().manual_seed(seed), progress=0.0)
        (t, _, s, _), (u, _, s_target, _) = net.calls
        assert s is not None
        assert s_target is not None
        torch.testing.assert_close(s, s_target)
        index = [(torch.cdist(v.log()[:, None], grid.log()[:, None])).min(dim=1) for v in (t, u, s)]
        assert all((distance < 1e-4).all() for distance, _ in index)
        first, middle, last = (where for _, where in index)  # from the largest level down
        steps = (middle - first).unique()
        assert len(steps) == 1
        assert len(teacher.calls) == 2 * int(steps)
        assert (last >= middle).all()
        assert len(target.calls) == 2
        for call in target.calls:
            torch.testing.assert_close(call[0], s)
            torch.testing.assert_close(call[2], torch.full_like(s, 0.002))
        seen |= {(int(steps), int(a), int(b)) for a, b in zip(first, last, strict=True)}
    pairs = {(n, a, b) for n in range(1, 6) for a in range(6 - n) for b in range(a + n, 6)}
    assert seen <= pairs
    assert len(seen) > 0.8 * len(pairs)


def test_without_a_teacher_the_ode_is_that_of_the_target() -> None:
    """The averaged network solves it, in its own denoiser's calls ``s = t``; the student only jumps."""
    net = Spy()
    config = CTMTrainingConfig(levels=6, max_steps=1, solver="heun")
    objective = config.build(FlowMap(net, VE), None)
    objective(torch.zeros(8, 2), {}, generator=torch.Generator().manual_seed(1), progress=0.0)
    own = [[call for call in n.calls if torch.equal(call[0], call[2])] for n in (objective.target.net, net)]  # type: ignore[arg-type]
    assert [len(calls) for calls in own] == [2, 1]  # Heun's two, and the denoising term


def test_the_number_of_steps_follows_its_law_and_is_one_for_all_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([draw_steps(4, 1.0, generator) for _ in range(600)])
    shares = torch.bincount(drawn, minlength=5)[1:] / 600
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.2, 0.3, 0.4]), rtol=0, atol=0.08)
    for seed in range(20):
        numbers = {
            draw_steps(17, 0.0, ShardGenerator(torch.Generator().manual_seed(seed), 2 * i, 2 * i + 2, 6))
            for i in range(3)
        }
        assert len(numbers) == 1


@pytest.mark.parametrize("kind", ["teacher", "self", "data"])
def test_a_share_of_a_batch_has_the_losses_of_the_whole(kind: str) -> None:
    student = FlowMap(TwoTimesNet(8), VE)
    if kind == "teacher":
        objective = CTMConfig().build(student, Denoiser(PlanarNet(8), VE))
    else:
        config = CTMTrainingConfig(source=kind, max_steps=1 if kind == "data" else None)  # type: ignore[arg-type]
        objective = config.build(student, None)
    x0, label = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    whole = objective(x0, {"label": label}, generator=torch.Generator().manual_seed(5), progress=0.4).per_example
    assert whole.isfinite().all()
    parts = [
        objective(
            x0[start : start + 3],
            {"label": label[start : start + 3]},
            generator=ShardGenerator(torch.Generator().manual_seed(5), start, start + 3, 6),
            progress=0.4,
        ).per_example
        for start in (0, 3)
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-5)


def test_the_gradient_passes_through_the_target_and_stops_there() -> None:
    objective, net, target, _ = spied(levels=6, target_ema=0.5)
    label = {"label": torch.arange(8)}
    x0 = torch.randn(8, 2, generator=torch.Generator().manual_seed(3))
    objective(x0, label, generator=torch.Generator().manual_seed(0), progress=0.0).per_example.mean().backward()
    assert net.body.weight.grad is not None
    assert net.body.weight.grad.any()
    assert target.body.weight.grad is None
    assert len(net.calls) == 3  # from u without gradient, from t with it, and the denoising term
    t, _, s, _ = net.calls[2]
    torch.testing.assert_close(t, s)
    for _, _, _, condition in net.calls + target.calls:
        assert isinstance(condition, dict)
        assert torch.equal(condition["label"].index, label["label"])
    before = target.body.weight.clone()
    with torch.no_grad():
        net.body.weight.add_(1.0)
    objective.after_step(0.0)
    torch.testing.assert_close(target.body.weight, 0.5 * before + 0.5 * net.body.weight)


def test_the_denoising_term_can_be_left_out() -> None:
    objective, net, _, _ = spied(levels=6, denoising_weight=0.0)
    logs = objective(torch.randn(8, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.0).logs
    assert len(net.calls) == 2
    assert set(logs) == {"ctm/consistency", "ctm/solver_steps"}


def test_dropout_masks_are_those_of_both_branches() -> None:
    """With networks that answer from their masks alone, equal masks mean that both ways end at answers alike."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.dropout = nn.Parameter(torch.ones(1)), nn.Dropout(0.5)
            self.outs: list[Tensor] = []

        def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
            self.outs.append(self.scale * self.dropout(torch.ones_like(x)))
            return self.outs[-1]

    net = Masked()
    config = CTMConfig(levels=6, denoising_weight=0.0)
    objective = config.build(FlowMap(net, VE), Denoiser(PlanarNet(8), VE)).train()
    objective(torch.zeros(8, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.0)
    target = objective.target.net
    assert isinstance(target, Masked)
    for outs in (net.outs, target.outs):
        assert torch.equal(outs[0], outs[1])
        assert len(outs[0].unique()) == 2
    assert not torch.equal(net.outs[0], target.outs[0])


def test_the_last_layer_is_pulled_equally_by_both_terms_where_they_are_balanced() -> None:
    student, x0 = FlowMap(TwoTimesNet(16), VE), torch.randn(32, 2)
    teacher, last = Denoiser(PlanarNet(8), VE), last_weight(student.net)
    assert last.shape == (2, 16)
    gradients, weights = {}, {}
    for balance, weight in (("fixed", 0.0), ("fixed", 1.0), ("adaptive", 0.5)):
        config = CTMConfig(levels=6, denoising_weight=weight, balance=balance)  # type: ignore[arg-type]
        torch.manual_seed(0)
        loss = config.build(student, teacher)(x0, {}, generator=torch.Generator().manual_seed(0), progress=0.0)
        (gradients[weight],) = torch.autograd.grad(loss.per_example.mean(), last)
        weights[weight] = loss.logs.get("ctm/denoising_weight")
    denoising = gradients[1.0] - gradients[0.0]
    factor = gradients[0.0].norm() / denoising.norm()
    torch.testing.assert_close(weights[0.5], 0.5 * factor, rtol=1e-4, atol=0)
    torch.testing.assert_close(gradients[0.5], gradients[0.0] + 0.5 * factor * denoising, rtol=1e-3, atol=1e-5)


def test_under_autocast_the_loss_is_in_full_precision_and_reaches_every_weight() -> None:
    objective = CTMTrainingConfig(max_steps=2).build(FlowMap(TwoTimesNet(8), VE), None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(torch.randn(6, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.0).per_example
    assert loss.dtype == torch.float32
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in objective.student.parameters())
    assert all(p.grad is None for p in objective.target.parameters())


def test_a_guided_teacher_leads_where_there_is_no_denoising_term() -> None:
    config = CTMConfig(guidance=2.0, denoising_weight=0.0)
    objective = config.build(FlowMap(TwoTimesNet(8), VE), Denoiser(PlanarNet(8), VE))
    assert isinstance(objective.teacher, GuidedDenoiser)
    assert objective.teacher.scale == 2.0
    student = FlowMap(WavyNet(), VE)
    x, t, u = torch.randn(3, 2), torch.full((3,), 5.0), torch.full((3,), 2.0)
    label = {"label": Label(torch.tensor([0, 1, 2]))}
    teacher = GaussianDenoiser(VE)
    got = config.build(student, teacher).solved(x, x, x, [t, u], label)
    torch.testing.assert_close(got, heun_step(GuidedDenoiser(teacher, 2.0), x, t, u, label))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 1}, "levels must be at least 2, got 1"),
        ({"levels": 18, "max_steps": 18}, "max_steps must be from 1 to levels - 1 = 17, got 18"),
        ({"max_steps": 0}, "max_steps must be from 1"),
        ({"target_ema": 1.0}, r"target_ema must be in \[0, 1\), got 1.0"),
        ({"denoising_weight": -1.0}, "denoising_weight must not be negative"),
        ({"denoising_weight": 0.0, "balance": "adaptive"}, "nothing to balance at denoising_weight 0"),
        ({"guidance": 2.0}, "set denoising_weight=0"),
    ],
)
def test_bad_options_of_distillation_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CTMConfig(**options)  # type: ignore[arg-type]


def test_bad_options_of_training_are_refused() -> None:
    with pytest.raises(ValueError, match="got max_steps 17; set max_steps=1"):
        CTMTrainingConfig(source="data")
    with pytest.raises(ValueError, match="set denoising_weight above 0"):
        CTMTrainingConfig(denoising_weight=0.0)


def test_a_teacher_must_be_there_and_on_the_path_of_the_student() -> None:
    student = FlowMap(TwoTimesNet(8), VE)
    with pytest.raises(ValueError, match="needs a teacher"):
        CTMConfig().build(student, None)
    with pytest.raises(ValueError, match="must be on the teacher's path LinearFlow"):
        CTMConfig().build(student, Denoiser(PlanarNet(8), LinearFlow()))
    with pytest.raises(ValueError, match="do not go together"):
        ConsistencyTrajectory(student, Denoiser(PlanarNet(8), VE), CTMTrainingConfig())


def test_a_hook_takes_the_place_of_the_distance() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def metric(x: Tensor, y: Tensor) -> Tensor:
        seen.append((x, y))
        return 3 * SquaredL2()(x, y)

    config = CTMConfig(denoising_weight=0.0)
    student, teacher = FlowMap(TwoTimesNet(8), VE), Denoiser(PlanarNet(8), VE)
    objective = ConsistencyTrajectory(student, teacher, config, metric)
    loss = objective(torch.randn(4, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.0).per_example
    (x, y) = seen[0]
    torch.testing.assert_close(loss, 3 * SquaredL2()(x, y))
    assert x.requires_grad
    assert not y.requires_grad


@pytest.mark.timeout(900)  # about eight seconds of CPU each, on machines that may be busy
@pytest.mark.usefixtures("_without_type_checks")
@pytest.mark.parametrize("kind", ["distillation", "self"])
def test_eight_modes_are_found_in_one_step_and_in_two(kind: str) -> None:
    student = FlowMap(TwoTimesNet(64), TOY)
    common = {"levels": 10, "max_steps": 3, "step_power": 0.0, "target_ema": 0.9, "solver": "euler"}
    if kind == "distillation":
        config = CTMConfig(denoising_weight=0.0, **common)  # type: ignore[arg-type]
        objective = config.build(student, MixtureDenoiser(TOY, MEANS, WIDTH))
    else:
        objective = CTMTrainingConfig(denoising_weight=0.1, **common).build(student, None)  # type: ignore[arg-type]
    untrained = judge(student, [])
    assert untrained[0] < 0.02
    assert untrained[1] > 0.7
    trained = train(objective, student, steps=300, rate=2e-2)
    for times in ([], [0.5]):
        smallest, outside, same = judge(trained, times)
        assert smallest > 0.03
        assert outside < 0.6
        assert same > 0.8
    assert shares(sample_gamma(trained, NOISE, torch.tensor([TOY.t_max, 0.5]), gamma=1.0))[0] > 0.03
