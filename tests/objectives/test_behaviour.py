"""What every objective promises: one loss per example, shared noise and dropout, conditions, targets, determinism."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from analytic import PATHS, PlanarNet
from unistep.core.condition import Condition, as_condition
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap, GuidedDenoiser, Map
from unistep.core.path import Path, VarianceExploding
from unistep.core.seeding import ShardGenerator
from unistep.core.solvers import heun_step
from unistep.core.timesteps import ConstantLevels, DoublingCurriculum, LogNormal, SqrtCurriculum
from unistep.nets.unet import UNetConfig
from unistep.objectives.base import Objective
from unistep.objectives.cd import CDConfig, ConsistencyDistillation
from unistep.objectives.ct import ConsistencyTraining, CTConfig
from unistep.objectives.denoising import Denoising, DenoisingConfig
from unistep.objectives.distance import PseudoHuber
from unistep.objectives.ect import EasyConsistencyTuning, ECTConfig
from unistep.objectives.imm import IMMConfig
from unistep.objectives.pairing import paired

VE = VarianceExploding()
WIDE = LogNormal(mean=0.0, std=0.5)
"""Noise levels at which noise is found again from a point and its data without loss of digits."""
LABEL = {"label": torch.tensor([0, 1, 2, 0, 1, 2])}


class Spy(nn.Module):
    """A network with weights that keeps what it is called with."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Dropout(dropout), nn.Linear(32, 2))
        self.calls: list[dict[str, object]] = []

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: Condition | None) -> Tensor:
        out = self.body(torch.cat([x, t[:, None]], dim=1))
        self.calls.append({"x": x, "t": t, "condition": condition, "grad": torch.is_grad_enabled(), "out": out})
        return out


def make(kind: str, net: nn.Module, path: Path = VE, teacher_net: nn.Module | None = None) -> Objective:
    teacher = Denoiser(teacher_net or PlanarNet(8), path)
    if kind == "denoising":
        return Denoising(Denoiser(net, path), DenoisingConfig())
    student = ConsistencyModel(net, path, boundary=0.0 if kind.startswith("easy") else None)
    builders: dict[str, Callable[[], Objective]] = {
        "distillation": lambda: ConsistencyDistillation(student, teacher, CDConfig()),
        "training": lambda: ConsistencyTraining(student, CTConfig()),
        "ict": lambda: ConsistencyTraining(student, CTConfig(curriculum=DoublingCurriculum(), weighting="inverse_gap")),
        "easy": lambda: EasyConsistencyTuning(student, None, ECTConfig()),
        "easy-heun": lambda: EasyConsistencyTuning(student, teacher, ECTConfig(target="heun")),
    }
    return builders[kind]()


KINDS = ["denoising", "distillation", "training", "ict", "easy", "easy-heun"]
CONSISTENCY = KINDS[1:]


def run(objective: Objective, seed: int = 0, progress: float = 0.6, num: int = 6) -> Tensor:
    x0 = torch.randn(num, 2, generator=torch.Generator().manual_seed(99)).clamp(-1, 1)
    condition = {"label": LABEL["label"][:num]}
    return objective(x0, condition, generator=torch.Generator().manual_seed(seed), progress=progress).per_example


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(PATHS))
def test_losses_are_finite_and_one_for_each_example(kind: str, name: str) -> None:
    objective = make(kind, PlanarNet(8), PATHS[name])
    for progress in (0.0, 0.5, 1.0):
        loss = run(objective, progress=progress)
        assert loss.shape == (6,)
        assert loss.isfinite().all()
        assert (loss >= 0).all()
        loss.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.student.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_logs_are_detached_scalars(kind: str) -> None:
    objective = make(kind, PlanarNet(8))
    logs = objective(torch.zeros(4, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.2).logs
    assert logs
    for name, value in logs.items():
        assert "/" in name
        assert value.shape == ()
        assert not value.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_belongs_to_its_generator(kind: str) -> None:
    objective = make(kind, PlanarNet(8))
    assert torch.equal(run(objective, 1), run(objective, 1))
    assert not torch.equal(run(objective, 1), run(objective, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_a_batch_has_the_losses_of_the_whole(kind: str) -> None:
    """Two processes with three examples each compute what one does with six."""
    objective = make(kind, PlanarNet(8))
    x0 = torch.randn(6, 2)
    whole = objective(x0, LABEL, generator=torch.Generator().manual_seed(5), progress=0.4).per_example
    parts = [
        objective(
            x0[rows],
            {"label": LABEL["label"][rows]},
            generator=ShardGenerator(torch.Generator().manual_seed(5), rows.start, rows.stop, 6),
            progress=0.4,
        ).per_example
        for rows in (slice(0, 3), slice(3, 6))
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["training", "ict", "easy"])
def test_both_branches_see_the_same_data_and_the_same_noise(kind: str) -> None:
    net = Spy()
    objective = make(kind, net)
    x0 = torch.randn(50, 2)
    objective.student.requires_grad_(True)
    target = getattr(objective, "target", None)
    objective(x0, {}, generator=torch.Generator().manual_seed(0), progress=0.9)
    calls = net.calls + (target.net.calls if target is not None else [])
    assert len(calls) == 2
    noises = []
    for call in calls:
        t = (4 * call["t"]).exp()[:, None]
        x_t = call["x"] * (t.square() + 0.25).sqrt()
        noises.append((x_t - x0) / t)
    far = ((4 * calls[0]["t"]).exp() > 0.05) & ((4 * calls[1]["t"]).exp() > 0.05)  # where dividing by t is precise
    assert far.sum() > 10
    torch.testing.assert_close(noises[0][far], noises[1][far], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(calls[0]["t"], calls[1]["t"])
    assert abs(noises[0][far].std().item() - 1) < 0.4


@pytest.mark.parametrize("kind", CONSISTENCY)
def test_both_branches_use_the_same_dropout_mask(kind: str) -> None:
    """With a network that ignores its input, equal masks mean equal answers of the network, whatever the noise."""
    net = Spy(dropout=0.5)
    nn.init.zeros_(net.body[0].weight)
    nn.init.ones_(net.body[0].bias)
    objective = make(kind, net)
    objective.train()
    run(objective)
    target = getattr(objective, "target", None)
    calls = net.calls + (target.net.calls if target is not None else [])
    assert len(calls) == 2
    assert torch.equal(calls[0]["out"], calls[1]["out"])
    assert not torch.equal(calls[0]["out"][0], calls[0]["out"][1])
    run(objective)
    assert not torch.equal(net.calls[-1]["out"], calls[0]["out"])


@pytest.mark.parametrize("kind", CONSISTENCY)
def test_only_the_noisier_branch_has_a_gradient(kind: str) -> None:
    net = Spy()
    objective = make(kind, net)
    run(objective)
    target = getattr(objective, "target", None)
    with_gradient = [c for c in net.calls if c["grad"]]
    without = [c for c in net.calls if not c["grad"]] + (target.net.calls if target is not None else [])
    assert len(with_gradient) == len(without) == 1
    assert (with_gradient[0]["t"] > without[0]["t"]).all()


@pytest.mark.parametrize("kind", CONSISTENCY)
def test_both_branches_are_told_the_same_condition(kind: str) -> None:
    net, teacher_net = Spy(), Spy()
    objective = make(kind, net, teacher_net=teacher_net)
    run(objective)
    target = getattr(objective, "target", None)
    for call in net.calls + teacher_net.calls + (target.net.calls if target is not None else []):
        assert torch.equal(call["condition"]["label"].index, LABEL["label"])  # type: ignore[index]


@pytest.mark.parametrize("kind", ["denoising", "easy"])
def test_noise_can_be_paired_with_its_data(kind: str) -> None:
    """The same noise as without, in the order of the optimal assignment."""
    x0 = 2 * torch.randn(40, 2, generator=torch.Generator().manual_seed(3))
    noises = []
    for pairing in ("independent", "optimal_transport"):
        net = Spy()
        objective: Objective = (
            Denoising(Denoiser(net, VE), DenoisingConfig(times=WIDE, pairing=pairing))
            if kind == "denoising"
            else EasyConsistencyTuning(
                ConsistencyModel(net, VE, boundary=0.0), None, ECTConfig(times=WIDE, pairing=pairing)
            )
        )
        objective(x0, {}, generator=torch.Generator().manual_seed(0), progress=0.9)
        far = next(call for call in net.calls if call["grad"])
        t = (4 * far["t"]).exp()[:, None]
        noises.append((far["x"] * (t.square() + 0.25).sqrt() - x0) / t)
    plain, near = noises
    wanted = paired(plain, x0, {}, "optimal_transport")
    torch.testing.assert_close(near, wanted, rtol=1e-3, atol=1e-3)
    assert (x0 - near).square().sum() < 0.7 * (x0 - plain).square().sum()


def test_labels_are_dropped_for_guidance_in_their_share() -> None:
    net = Spy()
    objective = Denoising(Denoiser(net, VE), DenoisingConfig(label_dropout=0.3))
    label = {"label": torch.zeros(3000, dtype=torch.long)}
    objective(torch.zeros(3000, 2), label, generator=torch.Generator().manual_seed(0), progress=0.0)
    told = net.calls[0]["condition"]["label"].index  # type: ignore[index]
    assert (told == -1).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not label["label"].any()


@pytest.mark.parametrize("kind", ["training", "easy"])
def test_dropped_labels_are_dropped_in_both_branches(kind: str) -> None:
    net = Spy()
    if kind == "easy":
        objective: Objective = EasyConsistencyTuning(
            ConsistencyModel(net, VE, boundary=0.0), None, ECTConfig(label_dropout=0.5)
        )
    else:
        config = CTConfig(curriculum=DoublingCurriculum(), label_dropout=0.5)
        objective = ConsistencyTraining(ConsistencyModel(net, VE), config)
    label = {"label": torch.zeros(100, dtype=torch.long)}
    objective(torch.zeros(100, 2), label, generator=torch.Generator().manual_seed(0), progress=0.5)
    first, second = (c["condition"]["label"].index for c in net.calls)  # type: ignore[index]
    assert torch.equal(first, second)
    assert 30 < int((first == -1).sum()) < 70


def test_a_guided_teacher_leads_an_unguided_student() -> None:
    teacher, net = Denoiser(PlanarNet(8), VE), Spy()
    objective = ConsistencyDistillation(ConsistencyModel(net, VE), teacher, CDConfig(guidance=2.5))
    assert isinstance(objective.teacher, GuidedDenoiser)
    assert objective.teacher.scale == 2.5
    assert objective.teacher.denoiser is teacher
    run(objective)
    assert len(net.calls) == 2
    plain = ConsistencyDistillation(ConsistencyModel(net, VE), teacher, CDConfig())
    assert plain.teacher is teacher


def test_a_guided_teacher_moves_the_target_by_its_guided_step() -> None:
    class ConditionValue(Denoiser):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: Condition | None = None) -> Tensor:
            assert condition is not None
            return 0.1 * (as_condition(condition)["label"].tensors["index"] + 1).to(x)[:, None].expand_as(x)

    teacher, net = ConditionValue(nn.Identity(), VE), Spy()
    objective = ConsistencyDistillation(ConsistencyModel(net, VE), teacher, CDConfig(guidance=3.0))
    run(objective)
    far, near = (c for c in sorted(net.calls, key=lambda c: not c["grad"]))
    t, s = ((4 * c["t"]).exp() for c in (far, near))
    x_t, x_s = (c["x"] * (v.square() + 0.25).sqrt()[:, None] for c, v in ((far, t), (near, s)))
    wanted = heun_step(GuidedDenoiser(teacher, 3.0), x_t, t, s, LABEL)
    torch.testing.assert_close(x_s, wanted, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(x_s, heun_step(teacher, x_t, t, s, LABEL), rtol=1e-2, atol=1e-2)


def test_averaged_targets_follow_and_free_ones_do_not_exist() -> None:
    student = ConsistencyModel(PlanarNet(8), VE)
    averaged = ConsistencyTraining(student, CTConfig(curriculum=SqrtCurriculum(target_ema=0.9)))
    free = ConsistencyTraining(student, CTConfig(curriculum=DoublingCurriculum()))
    constant = ConsistencyTraining(student, CTConfig(curriculum=ConstantLevels(target_ema=0.5)))
    distilled = ConsistencyDistillation(student, Denoiser(PlanarNet(8), VE), CDConfig(target_ema=0.75))
    assert free.target is None
    for objective, decay in ((averaged, 0.9), (constant, 0.5), (distilled, 0.75)):
        assert objective.target is not None
        before = next(objective.target.parameters()).clone()
        with torch.no_grad():
            for p in student.parameters():
                p.add_(1.0)
        objective.after_step(0.0)
        wanted = decay * before + (1 - decay) * next(student.parameters())
        torch.testing.assert_close(next(objective.target.parameters()), wanted)
    free.after_step(0.0)


def test_a_hook_takes_the_place_of_the_distance() -> None:
    calls: list[tuple[Tensor, Tensor]] = []

    def metric(x: Tensor, y: Tensor) -> Tensor:
        calls.append((x, y))
        return (x - y).flatten(1).abs().amax(dim=1)

    student, teacher = ConsistencyModel(PlanarNet(8), VE), Denoiser(PlanarNet(8), VE)
    easy = ConsistencyModel(PlanarNet(8), VE, boundary=0.0)
    for objective in (
        ConsistencyDistillation(student, teacher, CDConfig(), metric),
        ConsistencyTraining(student, CTConfig(), metric),
        EasyConsistencyTuning(easy, None, ECTConfig(weighting="one"), metric),
    ):
        x, y = (run(objective), calls[-1])[1]
        torch.testing.assert_close(run(objective), (x - y).abs().amax(dim=1))
        assert x.requires_grad
        assert not y.requires_grad


def test_ect_weights_are_the_published_ones() -> None:
    """1/(t - r) on CIFAR-10 and 1/t^2 + 1/sigma_d^2 on ImageNet."""
    student = ConsistencyModel(PlanarNet(8), VE, boundary=0.0)
    losses = {}
    for weighting in ("one", "inverse_gap", "snr_plus_k"):
        config = ECTConfig(weighting=weighting)  # type: ignore[arg-type]
        losses[weighting] = run(EasyConsistencyTuning(student, None, config))
    sigma = ECTConfig().times.draw(6, torch.Generator().manual_seed(0))
    gap = sigma - ECTConfig().curriculum.closer(sigma, 0.6)
    torch.testing.assert_close(losses["inverse_gap"], losses["one"] / gap)
    torch.testing.assert_close(losses["snr_plus_k"], losses["one"] * (sigma**-2 + 4))


def test_ict_weighs_by_the_inverse_gap_of_its_levels() -> None:
    student = ConsistencyModel(PlanarNet(8), VE)
    config = {"curriculum": DoublingCurriculum()}
    plain = run(ConsistencyTraining(student, CTConfig(**config)))
    weighed = run(ConsistencyTraining(student, CTConfig(weighting="inverse_gap", **config)))
    ratio = weighed / plain
    assert (ratio > 0).all()
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    num = DoublingCurriculum().levels(0.6)
    grid = torch.tensor([(low + i / (num - 1) * (high - low)) ** 7 for i in range(num)], dtype=torch.float64)
    for value in ratio.double():
        assert ((grid.diff() * value - 1).abs() < 1e-3).any()


def test_tuning_towards_a_teacher_needs_one() -> None:
    with pytest.raises(ValueError, match="a target of 'heun' needs a teacher; give one, or use target 'data'"):
        EasyConsistencyTuning(ConsistencyModel(PlanarNet(8), VE, boundary=0.0), None, ECTConfig(target="heun"))


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_every_weight_of_the_student_receives_a_gradient(kind: str) -> None:
    objective = make(kind, PlanarNet(8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = run(objective)
    assert loss.dtype == torch.float32
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in objective.student.parameters())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_signals_of_any_dimension_can_be_trained(dims: int) -> None:
    net = UNetConfig(dims=dims, widths=(8, 16), embedding_dim=16, head_dim=8, num_classes=3).build()
    x0 = torch.rand(2, 1, *([4] * dims)) * 2 - 1
    maps: list[Map] = [Denoiser(net, VE), ConsistencyModel(net, VE), ConsistencyModel(net, VE, boundary=0.0)]
    label = {"label": torch.tensor([0, 2])}
    for objective in (
        Denoising(maps[0], DenoisingConfig()),  # type: ignore[arg-type]
        ConsistencyTraining(maps[1], CTConfig()),  # type: ignore[arg-type]
        EasyConsistencyTuning(maps[2], None, ECTConfig()),  # type: ignore[arg-type]
    ):
        loss = objective(x0, label, generator=torch.Generator().manual_seed(0), progress=0.5)
        assert loss.per_example.shape == (2,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CDConfig(levels=1), "levels must be at least 2, got 1"),
        (lambda: CDConfig(rho=0.0), "rho must be positive, got 0.0"),
        (lambda: CDConfig(target_ema=1.5), "target_ema must be from 0 .* to below 1, got 1.5"),
        (lambda: CTConfig(rho=math.inf), "rho must be positive, got inf"),
        (lambda: CTConfig(label_dropout=1.5), "label_dropout must be from 0 to 1, got 1.5"),
        (lambda: DenoisingConfig(label_dropout=2.0), "label_dropout must be from 0 to 1, got 2.0"),
        (lambda: ECTConfig(label_dropout=-1.0), "label_dropout must be from 0 to 1, got -1.0"),
        (lambda: ECTConfig(guidance=1.3), "guidance 1.3 needs a teacher to guide, and target 'data' asks none"),
        (lambda: PseudoHuber(c=-1.0), "c must be 0 .* or more, or None for the paper's, got -1.0"),
        (lambda: IMMConfig(a=-1.0), "a must be 0 or more and b finite, got -1.0 and 5.0"),
        (lambda: ConsistencyModel(nn.Identity(), VarianceExploding(), boundary=90.0), "below the path's last time 80"),
        (lambda: FlowMap(nn.Identity(), VarianceExploding(), boundary=-1.0), "boundary must be from 0 to below"),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
