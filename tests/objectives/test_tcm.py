"""The second stage: limits on Gaussian data, its first stage below the transition, and eight modes in the plane."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jaxtyping
import pytest
import torch
from scipy import integrate
from torch import Tensor, nn

from analytic import GaussianFlow, PlanarNet, TanhNet, WavyNet
from planar import NOISE, shares, train
from unistep.core.condition import Label
from unistep.core.flowmap import ConsistencyModel, Denoiser
from unistep.core.path import LinearFlow, Path, VarianceExploding
from unistep.core.sampling import sample_one_step
from unistep.core.seeding import Randomness, ShardGenerator
from unistep.core.timesteps import HeavyTailed, LogNormal, RatioCurriculum
from unistep.data import DataConfig
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig
from unistep.objectives.base import Objective
from unistep.objectives.distance import PseudoHuber, SquaredL2
from unistep.objectives.ect import EasyConsistencyTuning, ECTConfig
from unistep.objectives.tcm import TCMConfig, TruncatedConsistencyTraining
from unistep.training.build import build_objective
from unistep.training.run_config import RunConfig

VE = VarianceExploding()


@pytest.fixture
def _without_type_checks() -> Iterator[None]:
    """They take as long as these small networks do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def data(num: int, size: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.3 + 0.7 * torch.randn(num, size, generator=generator, dtype=torch.float64)


def wavy() -> ConsistencyModel:
    return ConsistencyModel(WavyNet(), VE, boundary=0.0)


@pytest.mark.parametrize(("df", "low", "high"), [(0.01, 1.0, 80.0), (2.0, 0.3, 80.0), (30.0, 0.5, 4.0)])
def test_the_heavy_tailed_law_has_the_density_of_student(df: float, low: float, high: float) -> None:
    """Shares of a large draw against the density, integrated by SciPy."""
    law = HeavyTailed(mean=0.1, std=0.3, df=df)
    draw = law.draw(200_000, low, high, torch.Generator().manual_seed(0))
    assert low <= float(draw.min()) <= float(draw.max()) <= high

    def mass(a: float, b: float) -> float:
        middle = [0.1] if a < 0.1 < b else None
        return integrate.quad(
            lambda v: (1 + ((v - 0.1) / 0.3) ** 2 / df) ** (-(df + 1) / 2), a, b, points=middle, limit=200
        )[0]

    whole = mass(math.log(low), math.log(high))
    for end in (0.15, 0.4, 0.8, 1.2):
        share = mass(math.log(low), end) / whole
        assert float((draw.log() < end).float().mean()) == pytest.approx(share, abs=0.004)


def test_the_papers_law_favours_the_transition_and_keeps_its_tail() -> None:
    draw = HeavyTailed().draw(100_000, 1.0, 80.0, torch.Generator().manual_seed(0))
    shares = [float(((draw >= a) & (draw < b)).float().mean()) for a, b in ((1, 1.1), (1.1, 4), (4, 80.1))]
    assert min(shares) > 0.15
    assert shares[0] / 0.1 > 20 * shares[2] / 76  # density


def slope(objective: Objective, gain: float, num: int = 60_000) -> float:
    student: Any = objective.student
    with torch.no_grad():
        student.gain.fill_(gain)
    loss = objective(data(num), {}, generator=torch.Generator().manual_seed(1), progress=1.0).per_example.mean()
    return float(torch.autograd.grad(loss, student.gain)[0])


@pytest.mark.parametrize("first", [1.0, 0.7])
def test_on_every_path_the_gradient_leads_to_the_exact_map_if_the_first_stage_is(path: Path, first: float) -> None:
    """On data the target has noise of mean zero, which leaves the gradient of a quadratic distance alone.

    A first stage that stops short pulls its student along: then the exact map has a gradient, towards less.
    """
    first_stage = GaussianFlow(path, boundary=0.0).double()
    with torch.no_grad():
        first_stage.gain.fill_(first)
    config = TCMConfig(
        times=HeavyTailed(std=0.5, df=1.0), curriculum=RatioCurriculum(q=64.0, stages=1), distance=SquaredL2(),
        boundary_weight=1.0,
    )  # fmt: skip
    objective = config.build(GaussianFlow(path, boundary=0.0).double(), first_stage)
    exact, too_little, too_much = slope(objective, 1.0), slope(objective, 0.8), slope(objective, 1.2)
    assert too_much > 0
    if first == 1.0:
        assert too_little < 0
        assert abs(exact) < 0.15 * min(-too_little, too_much)
    else:
        assert exact > 0.3 * too_much


def test_without_a_transition_it_is_the_first_stage() -> None:
    """The same losses, example by example, as consistency tuning with the same law."""
    law, x0 = HeavyTailed(mean=-1.1, std=2.0, df=50.0), data(50).float()

    @dataclass(frozen=True, kw_only=True)
    class Cut(LogNormal):
        def draw(self, num: int, generator: Randomness) -> Tensor:
            return law.draw(num, 0.002, 80.0, generator)

    for weighting, progress in (("inverse_gap", 0.0), ("snr_plus_k", 0.5), ("one", 1.0)):
        shared = {"curriculum": RatioCurriculum(), "distance": PseudoHuber(c=0.1), "weighting": weighting}
        config = TCMConfig(transition=0.0, boundary_probability=0.0, times=law, **shared)  # type: ignore[arg-type]
        easy = EasyConsistencyTuning(wavy(), None, ECTConfig(times=Cut(), **shared))  # type: ignore[arg-type]
        ours = config.build(wavy(), ConsistencyModel(TanhNet(), VE, boundary=0.0))
        losses = [
            objective(x0, {}, generator=torch.Generator().manual_seed(2), progress=progress).per_example
            for objective in (ours, easy)
        ]
        torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)


def test_below_the_transition_the_first_stage_answers_for_the_same_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it answers only there: it is asked about no other example."""

    class Labelled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor, self.seen = factor, []

        def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: dict[str, Label]) -> Tensor:
            self.seen.append(len(x))
            return self.factor * condition["label"].index[:, None].to(x) + 0 * x

    nets, pairs = [Labelled(1.0), Labelled(100.0)], []
    student, first = (ConsistencyModel(net, VE, boundary=0.0) for net in nets)

    def metric(answer: Tensor, wanted: Tensor) -> Tensor:
        pairs.append((answer, wanted))
        return SquaredL2()(answer, wanted)

    monkeypatch.setattr("unistep.objectives.tcm.randn_like", lambda x, generator: torch.zeros_like(x))
    config = TCMConfig(curriculum=RatioCurriculum(q=16.0, stages=1))
    objective = TruncatedConsistencyTraining(student, first, config, metric)
    x0, label = torch.zeros(400, 2), torch.arange(1, 401)
    loss = objective(x0, {"label": label}, generator=torch.Generator().manual_seed(0), progress=0.0)
    wanted = pairs[0][1][:, 0] / label
    below = wanted > 10
    part = int((~below).sum())
    assert nets[0].seen == [400, part + -part % 50]  # an eighth of the batch more at most
    assert nets[1].seen == [int(below.sum())]
    assert float(loss.logs["tcm/first_stage"]) == pytest.approx(float(below.float().mean()))
    assert 0.3 < float(below.float().mean()) < 0.9  # a quarter lies at the transition, many close above
    # What is left of the answers is c_out, 0.5 sigma / sqrt(sigma^2 + 0.25), which tells the noise level.
    assert (wanted[below] <= 100 * 0.5 / 1.25**0.5 + 1e-3).all()
    assert (wanted[~below] >= 0.5 / 1.25**0.5 - 1e-3).all()


def test_the_two_averages_are_those_of_the_boundary_and_of_the_rest() -> None:
    """The mean over many examples, for any share at the boundary, is that of the rest plus the weighted boundary."""
    results = []
    for share in (0.1, 0.5):
        config = TCMConfig(
            times=HeavyTailed(df=1.0), boundary_probability=share, boundary_weight=3.0, weighting="one",
            distance=SquaredL2(), curriculum=RatioCurriculum(q=16.0, stages=1),
        )  # fmt: skip
        objective = config.build(wavy(), ConsistencyModel(TanhNet(), VE, boundary=0.0))
        loss = objective(data(100_000).float(), {}, generator=torch.Generator().manual_seed(0), progress=0.0)
        mean, logs = float(loss.per_example.mean()), loss.logs
        assert mean == pytest.approx(float(logs["tcm/distance"]) + 3 * float(logs["tcm/boundary"]), rel=1e-4)
        results.append(mean)
    assert results[0] == pytest.approx(results[1], rel=0.03)


def test_two_processes_draw_what_one_does() -> None:
    objective, x0 = TCMConfig().build(wavy(), ConsistencyModel(TanhNet(), VE, boundary=0.0)), data(8).float()

    def losses(start: int, stop: int) -> Tensor:
        share = ShardGenerator(torch.Generator().manual_seed(4), start, stop, 8)
        return objective(x0[start:stop], {}, generator=share, progress=0.0).per_example

    assert torch.equal(torch.cat([losses(0, 3), losses(3, 8)]), losses(0, 8))


def test_the_student_has_one_dropout_mask_and_the_first_stage_none() -> None:
    student = ConsistencyModel(PlanarNet(16, dropout=0.5), VE, boundary=0.0)
    first, answers = copy.deepcopy(student), []
    objective = TCMConfig(boundary_probability=0.5).build(student, first)
    objective.train()
    student.net.register_forward_hook(lambda module, args, out: answers.append(out.detach()))
    objective(torch.zeros(500, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.0)
    assert len(answers) == 2
    assert (answers[0] - answers[1]).norm() < 0.05 * answers[0].norm()  # neighbouring levels, one mask
    assert not first.net.training
    assert not any(p.requires_grad for p in first.parameters())
    assert all(p.requires_grad for p in student.parameters())


NETWORK = UNetConfig(widths=(8,), blocks=(1,), channels=1)
IMAGES = ImageModality(size=8, channels=1)


def generator_of(kind: Any, boundary: float = 0.0) -> Generator:
    config = ModelConfig(kind=kind, network=NETWORK, modality=IMAGES, boundary=boundary)
    return Generator(config.build(), config)


def test_a_run_takes_a_one_step_model_as_the_teacher_and_no_denoiser() -> None:
    first = generator_of("consistency")
    config = RunConfig(recipe="r", data=DataConfig(), model=first.config, objective=TCMConfig(), teacher="first")  # type: ignore[arg-type]
    student = first.config.build()
    objective = build_objective(config, student, first)
    assert isinstance(objective, TruncatedConsistencyTraining)
    assert objective.student is student
    assert objective.teacher is not first.map  # a copy of its own, so that its weights can be frozen
    for ours, theirs in zip(objective.teacher.parameters(), first.map.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert theirs.requires_grad
    with pytest.raises(ValueError, match="the teacher 'first' must be a model of kind 'consistency', not 'denoiser'"):
        build_objective(config, student, generator_of("denoiser"))
    with pytest.raises(ValueError, match="the teacher 'first' must be a model of kind 'denoiser', not 'consistency'"):
        build_objective(replace(config, objective=ECTConfig()), student, first)
    with pytest.raises(ValueError, match="needs its first stage: name a trained one-step model with --teacher"):
        build_objective(config, student, None)
    with pytest.raises(ValueError, match="give the student the path and boundary of its first stage"):
        build_objective(config, student, generator_of("consistency", boundary=0.002))


def test_other_maps_and_levels_are_refused() -> None:
    linear = ConsistencyModel(WavyNet(), LinearFlow(), boundary=0.0)
    with pytest.raises(ValueError, match="give the student the path and boundary of its first stage"):
        TCMConfig().build(wavy(), linear)
    with pytest.raises(ValueError, match="needs its first stage"):
        TCMConfig().build(wavy(), Denoiser(WavyNet(), VE))
    with pytest.raises(ValueError, match="transition must be below the path's last noise level 80, got 100"):
        TCMConfig(transition=100.0).build(wavy(), wavy())


@pytest.mark.usefixtures("_without_type_checks")  # which would be the first to complain of a misspelt choice
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transition": -1.0}, "transition must be a noise level of 0 or more, got -1.0"),
        ({"transition": float("nan")}, "transition must be a noise level of 0 or more, got nan"),
        ({"transition": 0.0}, "boundary_probability must be 0, got 0.25"),
        ({"boundary_probability": 1.0}, "boundary_probability must be from 0 to below 1, got 1.0"),
        ({"boundary_weight": -0.1}, "boundary_weight must not be negative, got -0.1"),
        ({"weighting": "snr"}, "weighting must be one of inverse_gap, snr_plus_k, one, got 'snr'"),
        ({"label_dropout": -1.0}, "label_dropout must be from 0 to 1, got -1.0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TCMConfig(**options)


@pytest.mark.parametrize("options", [{"std": 0.0}, {"df": 0.0}, {"df": float("inf")}])
def test_a_law_without_a_scale_or_degrees_of_freedom_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="std must be positive and df positive and finite"):
        HeavyTailed(**options)
    with pytest.raises(ValueError, match="noise levels need a finite positive range"):
        HeavyTailed().draw(1, 0.0, 80.0, None)


@torch.no_grad()
def judge(model: ConsistencyModel) -> tuple[float, float]:
    """Smallest share of a mode, an eighth if perfect, and share outside all modes, both in one step."""
    return shares(sample_one_step(model, NOISE))


@pytest.mark.timeout(900)  # about ten seconds of CPU, on machines that may be busy
@pytest.mark.usefixtures("_without_type_checks")
def test_a_second_stage_improves_on_the_first_in_one_step() -> None:
    tuning = ECTConfig(times=LogNormal(mean=-0.8, std=1.6), curriculum=RatioCurriculum(q=4.0, stages=3))
    start = ConsistencyModel(PlanarNet(96), VE, boundary=0.0)
    first = train(EasyConsistencyTuning(start, None, tuning), start, steps=600, rate=3e-3)
    found, outside = judge(first)
    assert found > 0.01
    config = TCMConfig(
        transition=0.3, times=HeavyTailed(mean=math.log(0.3)), curriculum=RatioCurriculum(q=64.0, stages=1)
    )
    student = copy.deepcopy(first).requires_grad_(True)
    second = train(config.build(student, first), student, steps=700, rate=2e-3)
    found_then, outside_then = judge(second)
    assert found_then > 0.03
    assert outside_then < min(0.55, outside - 0.04)
