"""The adversarial term: closed forms, gradients that stay on their side, and samples that it moves to the data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from analytic import PlanarNet
from planar import MEANS, NOISE, train
from two_times import TOY, TwoTimesNet
from unistep.core.flowmap import Denoiser, FlowMap
from unistep.core.path import VarianceExploding
from unistep.core.sampling import sample_gamma
from unistep.objectives.adversarial import RATIO_RANGE, AdversarialConfig, Adversary, gradient_ratio, last_weight
from unistep.objectives.ctm import ConsistencyTrajectory, CTMConfig, CTMTrainingConfig
from unistep.objectives.distance import SquaredL2
from unistep.objectives.pcm import PCMConfig, PhasedConsistency
from unistep.optimizers import AdamConfig

VE = VarianceExploding()


class Judge(nn.Module):
    """A discriminator of points in the plane."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor, condition: object) -> Tensor:
        return self.body(x)[:, 0]


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, condition: object) -> Tensor:
        return self.slope * x[:, 0]


@pytest.mark.parametrize("kind", ["logistic", "hinge"])
def test_both_losses_are_those_of_the_formulas(kind: str) -> None:
    fake, real = torch.tensor([[4.0], [-1.0]]), torch.tensor([[1.0], [-3.0]])
    student, itself = Adversary(Line(), AdversarialConfig(weight=1.0, kind=kind))(fake, real, {})  # type: ignore[arg-type]
    if kind == "hinge":
        torch.testing.assert_close(student, torch.tensor([-2.0, 0.5]))
        torch.testing.assert_close(itself, torch.tensor([0.5 + 3.0, 2.5 + 0.5]))
        return
    for i, (d_fake, d_real) in enumerate([(2.0, 0.5), (-0.5, -1.5)]):
        sigmoid = [1 / (1 + math.exp(-d)) for d in (d_fake, d_real)]
        assert student[i].item() == pytest.approx(-math.log(sigmoid[0]), rel=1e-5)
        assert itself[i].item() == pytest.approx(-math.log(sigmoid[1]) - math.log(1 - sigmoid[0]), rel=1e-5)


def test_the_best_discriminator_of_two_gaussians_is_the_log_of_their_ratio() -> None:
    r""":math:`N(1, 1)` against :math:`N(-1, 1)`: :math:`d(x) = 2x`, where the gradient is none."""
    generator = torch.Generator().manual_seed(0)
    fake, real = (sign + torch.randn(200_000, 1, generator=generator) for sign in (-1, 1))
    net = Line()
    adversary = Adversary(net, AdversarialConfig(weight=1.0))
    slopes = []
    for value in (1.0, 2.0, 3.0):
        with torch.no_grad():
            net.slope.fill_(value)
        slopes.append(torch.autograd.grad(adversary(fake, real, {})[1].mean(), net.slope)[0].item())
    assert slopes[0] < -0.02
    assert abs(slopes[1]) < 0.003
    assert slopes[2] > 0.01


def gradients(weight: float, **options: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(0)
    student, teacher, judge = FlowMap(TwoTimesNet(16), VE), Denoiser(PlanarNet(8), VE), Judge()
    adversarial = AdversarialConfig(weight=weight, **options)  # type: ignore[arg-type]
    config = CTMConfig(levels=6, denoising_weight=0.0, adversarial=adversarial)
    objective = config.build(student, teacher, judge)
    x0 = torch.randn(32, 2, generator=torch.Generator().manual_seed(1))
    loss = objective(x0, {}, generator=torch.Generator().manual_seed(0), progress=0.25)
    loss.per_example.mean().backward()
    assert loss.per_example.shape == (32,)
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}, loss.logs


def test_each_side_has_its_own_gradient() -> None:
    """The student's is linear in the weight; the discriminator's does not see the weight at all."""
    without, logs = gradients(0.0)
    assert not [name for name in (*without, *logs) if "advers" in name]
    found = {weight: gradients(weight, balance="fixed")[0] for weight in (1.0, 3.0)}
    named = [name for name in found[1.0] if name.startswith("adversary.")]
    assert len(named) == 6
    assert {name.partition(".")[0] for name in found[1.0]} == {"student", "adversary"}
    for name in named:
        torch.testing.assert_close(found[3.0][name], found[1.0][name])
        assert found[1.0][name].any()
    for name, none in without.items():
        term = found[1.0][name] - none
        torch.testing.assert_close(found[3.0][name], none + 3 * term, rtol=1e-3, atol=1e-5)
        assert term.any()


def test_before_its_start_the_student_is_not_told_and_the_discriminator_learns() -> None:
    without, _ = gradients(0.0)
    early, logs = gradients(1.0, start=0.5)
    assert logs["adversarial/weight"] == 0
    for name, none in without.items():
        torch.testing.assert_close(early[name], none)
    assert all(value.any() for name, value in early.items() if name.startswith("adversary."))


def test_balanced_both_terms_pull_the_last_layer_alike() -> None:
    student, x = TwoTimesNet(16), torch.randn(8, 2)
    out = student(x, x[:, 0], x[:, 1], None)
    first, second = out.square().sum(dim=1), 5 * out.abs().sum(dim=1)
    ratio = gradient_ratio(first, second, student)
    norms = [
        torch.autograd.grad(loss.mean(), last_weight(student), retain_graph=True)[0].norm() for loss in (first, second)
    ]
    torch.testing.assert_close(ratio, norms[0] / norms[1])
    without, _ = gradients(0.0)
    fixed, _ = gradients(1.0, balance="fixed")
    balanced, logs = gradients(0.5)
    last = "student.net.body.6.weight"
    wanted = 0.5 * (without[last].norm() / (fixed[last] - without[last]).norm()).clamp(*RATIO_RANGE)
    torch.testing.assert_close(logs["adversarial/weight"], wanted, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        balanced[last], without[last] + wanted * (fixed[last] - without[last]), rtol=1e-3, atol=1e-4
    )


def test_a_network_without_a_matrix_has_no_balance() -> None:
    with pytest.raises(ValueError, match="needs a network with a weight matrix"):
        last_weight(nn.PReLU())


def test_without_a_gradient_it_is_evaluated_all_the_same() -> None:
    config = CTMTrainingConfig(levels=6, max_steps=2, adversarial=AdversarialConfig(weight=1.0))
    objective = config.build(FlowMap(TwoTimesNet(8), VE), None, Judge())
    with torch.no_grad():
        loss = objective(torch.randn(4, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.0)
    assert loss.per_example.isfinite().all()
    assert loss.logs["adversarial/weight"] == 1


def test_the_phases_compare_answers_with_targets_on_their_edges() -> None:
    """At an exact agreement of the two the discriminator sees one distribution twice, and its best score is 0."""
    seen: list[Tensor] = []
    compared: list[Tensor] = []

    def metric(answer: Tensor, wanted: Tensor) -> Tensor:
        compared.extend([answer, wanted])
        return SquaredL2()(answer, wanted)

    class Seeing(Judge):
        def forward(self, x: Tensor, condition: object) -> Tensor:
            seen.append(x)
            return super().forward(x, condition)

    config = PCMConfig(phases=2, adversarial=AdversarialConfig(weight=1.0, balance="fixed"))
    objective = PhasedConsistency(FlowMap(PlanarNet(8), VE), None, config, metric, Seeing())
    loss = objective(torch.randn(6, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.9)
    answer, detached, wanted = seen
    assert answer.requires_grad
    assert not detached.requires_grad
    assert not wanted.requires_grad
    for found, expected in zip(seen, (compared[0], *compared), strict=True):
        assert torch.equal(found, expected)
    assert loss.logs["adversarial/discriminator"] > 0
    (group,) = objective.param_groups()
    assert group.optimizer == AdamConfig(lr=1e-3, betas=(0.5, 0.99))
    assert group.module is objective.adversary
    assert PCMConfig().build(FlowMap(PlanarNet(8), VE), None).param_groups() == []


def test_the_balance_is_with_the_consistency_loss_alone() -> None:
    """Denoising, whose weight is another matter, leaves the adversarial weight as it is."""
    found = []
    for denoising in (0.0, 3.0):
        torch.manual_seed(0)
        config = CTMConfig(levels=6, denoising_weight=denoising, adversarial=AdversarialConfig(weight=1.0))
        objective = config.build(FlowMap(TwoTimesNet(16), VE), Denoiser(PlanarNet(8), VE), Judge())
        x0 = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
        logs = objective(x0, {}, generator=torch.Generator().manual_seed(0), progress=0.9).logs
        found.append(logs["adversarial/weight"])
    assert torch.equal(*found)
    assert RATIO_RANGE[0] < found[0] < RATIO_RANGE[1]


def test_trajectories_are_compared_with_data() -> None:
    seen: list[Tensor] = []

    class Seeing(Judge):
        def forward(self, x: Tensor, condition: object) -> Tensor:
            seen.append(x)
            return super().forward(x, condition)

    config = CTMConfig(levels=6, denoising_weight=0.0, adversarial=AdversarialConfig(weight=1.0, balance="fixed"))
    objective = config.build(FlowMap(TwoTimesNet(16), VE), Denoiser(PlanarNet(8), VE), Seeing())
    x0 = torch.randn(6, 2)
    objective(x0, {}, generator=torch.Generator().manual_seed(0), progress=0.9)
    estimate, detached, real = seen
    assert torch.equal(estimate, detached)
    assert torch.equal(real, x0)


@pytest.mark.timeout(900)
def test_alone_it_moves_samples_to_the_data() -> None:
    """Where the distance is none, a consistent student may answer anything: the term makes it answer with data."""
    config = CTMTrainingConfig(
        levels=10,
        max_steps=1,
        source="data",
        target_ema=0.5,
        denoising_weight=0.0,
        adversarial=AdversarialConfig(weight=1.0, balance="fixed"),
    )
    torch.manual_seed(0)
    student = FlowMap(TwoTimesNet(64), TOY)
    objective = ConsistencyTrajectory(student, None, config, lambda x, y: 0 * SquaredL2()(x, y), Judge(64))
    optimizer = torch.optim.Adam(
        [p for group in objective.param_groups() for p in group.module.parameters()], 3e-3, (0.5, 0.99)
    )
    ema_update = objective.after_step

    def after(progress: float) -> None:
        optimizer.step()
        optimizer.zero_grad()
        ema_update(progress)

    objective.after_step = after  # type: ignore[method-assign]

    @torch.no_grad()
    def miss(model: FlowMap) -> float:
        """Mean distance to the nearest centre."""
        return torch.cdist(sample_gamma(model, NOISE, torch.tensor([TOY.t_max])), MEANS).amin(dim=1).mean().item()

    assert miss(student) > 0.6
    assert miss(train(objective, student, steps=400, rate=3e-3)) < 0.45


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "adversarial.weight must be a number from 0 on, got -1.0; 0 leaves it out"),
        ({"weight": math.nan}, "adversarial.weight must be a number from 0 on, got nan"),
        ({"start": 1.5}, "adversarial.start is a share of the training, 0 to 1, got 1.5"),
        ({"balance": "none"}, "adversarial.balance must be one of adaptive, fixed, got 'none'"),
        ({"kind": "wgan"}, "adversarial.kind must be one of logistic, hinge, got 'wgan'"),
        ({"lr": 0.0}, "adversarial.lr must be positive, got 0.0"),
        ({"widths": ()}, r"adversarial.widths must be positive numbers, got \(\); try 32 64 128"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdversarialConfig(**options)  # type: ignore[arg-type]


def test_a_missing_discriminator_is_named() -> None:
    config = PCMConfig(adversarial=AdversarialConfig(weight=1.0))
    with pytest.raises(ValueError, match="needs a discriminator; give one"):
        config.build(FlowMap(PlanarNet(8), VE), None)
