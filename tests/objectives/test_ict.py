"""Improved consistency training: schedules, law and loss by an independent computation; limits on Gaussian data."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from analytic import GaussianDenoiser, GaussianFlow, PlanarNet, WavyNet
from planar import NOISE, shares, train
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import Path, VarianceExploding
from unistep.core.sampling import sample_one_step
from unistep.core.timesteps import DiscretisedLogNormal, DoublingCurriculum
from unistep.objectives.cd import CDConfig, ConsistencyDistillation
from unistep.objectives.distance import PseudoHuber, SquaredL2
from unistep.objectives.ict import ICTConfig, ImprovedConsistencyTraining

VE = VarianceExploding()


def data(num: int, size: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.3 + 0.7 * torch.randn(num, size, generator=generator, dtype=torch.float64)


def test_the_number_of_levels_doubles_at_equal_intervals() -> None:
    """Equation 8 of the paper at its own numbers: 400,000 steps, from 10 to 1280 in eight stages of 50,000."""
    curriculum, total = ICTConfig().curriculum, 400_000
    for k in (0, 49_999, 50_000, 123_456, 199_999, 200_000, 349_999, 350_000, 399_999, 400_000):
        stage_length = math.floor(total / (math.log2(1280 // 10) + 1))
        assert curriculum.levels(k / total) == min(10 * 2 ** math.floor(k / stage_length), 1280) + 1, k
        assert curriculum.target_decay(k / total) == 0.0


def given(monkeypatch: pytest.MonkeyPatch, noise: Tensor, index: Tensor) -> None:
    monkeypatch.setattr("unistep.objectives.ct.randn_like", lambda x, generator: noise)
    monkeypatch.setattr(DiscretisedLogNormal, "draw", lambda self, num, levels, generator: index)


@pytest.mark.parametrize("progress", [0.0, 0.6, 1.0])
def test_the_loss_is_that_of_the_paper(progress: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grid, weight, distance and the map's scalings in NumPy, with the network called at what the paper feeds it."""
    x0, noise = data(6).view(6, 1, 2, 2), torch.randn(6, 1, 2, 2, dtype=torch.float64)
    index = torch.tensor([0, 1, 3, 5, 8, 9])
    given(monkeypatch, noise, index)
    net = WavyNet()
    config = ICTConfig()
    objective = config.build(ConsistencyModel(net, VE), None)
    loss = objective(x0, {}, generator=None, progress=progress).per_example

    num = min(10 * 2 ** math.floor(progress * 8), 1280) + 1
    ramp = np.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), num) ** 7

    def f(x: Tensor, sigma: np.ndarray) -> Tensor:
        s = torch.tensor(sigma).view(-1, 1, 1, 1)
        skip, out = 0.25 / ((s - 0.002) ** 2 + 0.25), 0.5 * (s - 0.002) / (s**2 + 0.25).sqrt()
        return skip * x + out * net(x / (s**2 + 0.25).sqrt(), s.flatten().log() / 4, None, None)

    low, high = ramp[index.numpy()], ramp[index.numpy() + 1]
    points = [x0 + torch.tensor(sigma).view(-1, 1, 1, 1) * noise for sigma in (low, high)]
    difference = (f(points[1], high) - f(points[0], low)).flatten(1).square().sum(dim=1)
    c = 0.00054 * math.sqrt(4)
    wanted = ((difference + c**2).sqrt() - c) / torch.tensor(high - low)
    torch.testing.assert_close(loss, wanted, rtol=2e-4, atol=0)  # the grid of levels is kept in float32


def test_the_law_of_the_pairs_is_a_cut_normal_law_of_the_log_level() -> None:
    ramp = np.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), 21) ** 7
    mass = np.diff(stats.norm.cdf(np.log(ramp), loc=-1.1, scale=2.0))
    got = ICTConfig().law.probabilities(torch.tensor(ramp))
    torch.testing.assert_close(got, torch.tensor(mass / mass.sum()).float(), rtol=1e-5, atol=1e-8)


def loss_and_slope(objective: nn.Module, gain: float, num: int = 60_000) -> tuple[float, float]:
    student: Any = objective.student
    with torch.no_grad():
        student.gain.fill_(gain)
    loss = objective(data(num), {}, generator=torch.Generator().manual_seed(1), progress=1.0).per_example.mean()
    (slope,) = torch.autograd.grad(loss, student.gain)
    return loss.item(), slope.item()


def test_on_every_path_the_exact_map_has_no_gradient(path: Path) -> None:
    """With a wide distance, which is quadratic, the noise of the target has mean zero and leaves the gradient alone."""
    config = ICTConfig(
        curriculum=DoublingCurriculum(start=1280, end=1280), law=DiscretisedLogNormal(mean=-0.5, std=0.5),
        distance=PseudoHuber(c=1e3),
    )  # fmt: skip
    objective = config.build(GaussianFlow(path).double(), None)
    _, slope = loss_and_slope(objective, 1.0)
    _, too_little = loss_and_slope(objective, 0.8)
    _, too_much = loss_and_slope(objective, 1.2)
    assert too_little < 0 < too_much
    assert abs(slope) < 0.15 * min(-too_little, too_much)


def test_its_gradient_is_that_of_the_exact_ode() -> None:
    """Theorem 2 of Song et al. 2023, with the quadratic distance and the same pairs of levels."""
    law, curriculum = DiscretisedLogNormal(), DoublingCurriculum(start=10, end=10)
    on_data = ImprovedConsistencyTraining(
        GaussianFlow(VE).double(), ICTConfig(law=law, curriculum=curriculum), SquaredL2()
    )
    on_ode = ConsistencyDistillation(
        GaussianFlow(VE).double(), GaussianDenoiser(VE), CDConfig(levels=11, solver="euler", law=law)
    )
    # Distillation is not weighted by the gap: weigh both alike before they are compared.
    weightless = copy.copy(on_data)
    weightless.config = type(on_data.config)(**{**vars(on_data.config), "weighting": "one"})
    assert loss_and_slope(weightless, 0.9, 100_000)[1] == pytest.approx(
        loss_and_slope(on_ode, 0.9, 100_000)[1], rel=0.05
    )


def test_the_target_is_the_student_itself_under_the_same_dropout() -> None:
    student = ConsistencyModel(PlanarNet(16, dropout=0.5), VE)
    objective = ICTConfig(distance=PseudoHuber(c=0.0)).build(student, None)
    assert objective.target is None
    assert sum(p.numel() for p in objective.parameters()) == sum(p.numel() for p in student.parameters())
    objective.train()
    x0, answers = torch.zeros(500, 2), []
    student.net.register_forward_hook(lambda module, args, out: answers.append(out.detach()))
    # At the end of training neighbouring levels are all but one: answers under other masks would still differ.
    objective(x0, {}, generator=torch.Generator().manual_seed(0), progress=1.0)
    assert len(answers) == 2
    assert (answers[0] - answers[1]).norm() < 0.05 * answers[0].norm()


@pytest.fixture
def _without_type_checks() -> Iterator[None]:
    """They take as long as these small networks do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.timeout(900)  # a few seconds of CPU, on machines that may be busy
@pytest.mark.usefixtures("_without_type_checks")
def test_eight_modes_are_found_in_one_step_from_data_alone() -> None:
    student = ConsistencyModel(PlanarNet(96), VE)
    objective = ICTConfig(curriculum=DoublingCurriculum(start=10, end=80)).build(student, None)

    @torch.no_grad()
    def judge(model: ConsistencyModel) -> tuple[float, float]:
        return shares(sample_one_step(model, NOISE))

    assert judge(student)[1] > 0.9
    smallest, outside = judge(train(objective, student, steps=600))
    assert smallest > 0.02
    assert outside < 0.65


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 0.0}, "rho must be positive, got 0.0"),
        ({"label_dropout": 1.5}, "label_dropout must be from 0 to 1, got 1.5"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ICTConfig(**options)
