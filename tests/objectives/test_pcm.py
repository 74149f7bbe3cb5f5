"""Multi-phase consistency: exact on Gaussian data, consistency tuning with one phase, eight modes in a few jumps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from analytic import PATHS, GaussianDenoiser, GaussianFlow, MixtureDenoiser, PlanarNet, TanhNet, WavyNet
from planar import MEANS, NOISE, WIDTH, agreement, ode_modes, shares, train
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap
from unistep.core.path import Path, VarianceExploding
from unistep.core.sampling import sample_gamma
from unistep.core.seeding import ShardGenerator
from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig
from unistep.objectives.base import Objective
from unistep.objectives.distance import PseudoHuber, SquaredL2
from unistep.objectives.ect import EasyConsistencyTuning, ECTConfig
from unistep.objectives.pcm import PCMConfig, PhasedConsistency, phase_times

VE = VarianceExploding()


@pytest.fixture
def _without_type_checks() -> Iterator[None]:
    """They take as long as these small networks do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class ExactFlow(FlowMap):
    """The flow map of Gaussian data, with a gain on its jumps that a gradient can be asked for."""

    def __init__(self, path: Path, boundary: float | None = 0.0) -> None:
        super().__init__(nn.Identity(), path, 0.5, boundary)
        self.exact = GaussianFlow(path, boundary=boundary).double()

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        return self.exact(x, t, s)


def data(num: int, size: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.3 + 0.7 * torch.randn(num, size, generator=generator, dtype=torch.float64)


def loss_and_slope(objective: Objective, gain: float, num: int, progress: float = 1.0) -> tuple[float, float]:
    student: Any = objective.student
    with torch.no_grad():
        student.exact.gain.fill_(gain)
    loss = objective(data(num), {}, generator=torch.Generator().manual_seed(1), progress=progress).per_example.mean()
    return loss.item(), torch.autograd.grad(loss, student.exact.gain)[0].item()


@pytest.mark.parametrize("boundary", [0.0, None])
def test_along_the_exact_ode_the_exact_map_has_no_loss(path: Path, boundary: float | None) -> None:
    config = PCMConfig(
        phases=3, times=LogNormal(mean=-0.5, std=1.0), curriculum=RatioCurriculum(stages=10), target="heun",
        distance=SquaredL2(), weighting="one",
    )  # fmt: skip
    objective = config.build(ExactFlow(path, boundary), GaussianDenoiser(path))
    exact, slope = loss_and_slope(objective, 1.0, 2000)
    wrong, wrong_slope = loss_and_slope(objective, 0.8, 2000)
    assert exact < 1e-9
    assert wrong > 1e3 * exact
    assert abs(slope) < 0.02 * abs(wrong_slope)
    assert wrong_slope < 0  # a larger gain would be better


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_on_data_its_gradient_is_that_along_the_exact_ode(progress: float) -> None:
    """Song et al. 2023, theorem 2, within each phase: Euler's point and the data's differ by noise of mean zero."""
    slopes = []
    for target in ("data", "euler"):
        config = PCMConfig(
            phases=3, times=LogNormal(mean=-0.5, std=1.0), curriculum=RatioCurriculum(k=1.0, stages=4),
            distance=SquaredL2(), target=target,
        )  # fmt: skip
        objective = config.build(ExactFlow(VE), GaussianDenoiser(VE))
        slopes.append(loss_and_slope(objective, 0.9, 100_000, progress)[1])
    assert slopes[0] == pytest.approx(slopes[1], rel=0.06)


@pytest.mark.parametrize("target", ["data", "euler", "heun"])
def test_with_one_phase_it_is_consistency_tuning(target: str) -> None:
    """The same losses, example by example, on the path on which a jump to the data is the denoiser's answer."""
    x0, teacher = data(50).float(), Denoiser(WavyNet(), VE)
    for progress in (0.0, 0.4, 1.0):
        shared: dict[str, Any] = {"distance": PseudoHuber(c=0.1), "target": target}
        shared["guidance"] = 1.0 if target == "data" else 2.0
        ours = PCMConfig(phases=1, **shared).build(FlowMap(TanhNet(), VE, boundary=0.0), teacher)
        easy = EasyConsistencyTuning(ConsistencyModel(TanhNet(), VE, boundary=0.0), teacher, ECTConfig(**shared))
        losses = [
            objective(x0, {}, generator=torch.Generator().manual_seed(2), progress=progress).per_example
            for objective in (ours, easy)
        ]
        torch.testing.assert_close(losses[0], losses[1], rtol=2e-3, atol=1e-5)


def watched(config: PCMConfig, student: FlowMap) -> tuple[PhasedConsistency, list[tuple[Tensor, Tensor]]]:
    """An objective and the pairs that it compares."""
    pairs: list[tuple[Tensor, Tensor]] = []

    def metric(answer: Tensor, wanted: Tensor) -> Tensor:
        pairs.append((answer, wanted))
        return SquaredL2()(answer, wanted)

    return PhasedConsistency(student, None, config, metric), pairs


def test_each_phase_starts_as_denoising_towards_its_lower_edge(path: Path) -> None:
    """At the widest gap the target is the data with the noise of the edge, whatever the student is."""
    config = PCMConfig(phases=4, times=LogNormal(mean=-0.5, std=1.0), curriculum=RatioCurriculum(k=1e6, q=1.5))
    objective, pairs = watched(config, FlowMap(WavyNet(), path, boundary=0.0))
    x0 = data(200).float()
    generator = torch.Generator().manual_seed(3)
    loss = objective(x0, {}, generator=generator, progress=0.0)
    generator.manual_seed(3)
    sigma = config.times.draw(200, generator)
    edges = [0.0, *reversed(config.inner_edges(0.5))]
    lower = torch.tensor([max(edge for edge in edges if edge < level) for level in sigma.tolist()])
    assert len(set(lower.tolist())) == 4
    s = path.time_at(lower)[:, None]
    # What is left after the signal is taken away is noise of the edge's strength.
    left = pairs[0][1] - path.alpha(s) * x0
    zero = lower == 0
    assert float(left[zero].abs().max()) < 1e-6
    for edge in edges[1:]:
        here = lower == torch.tensor(edge)
        assert float(left[here].std()) == pytest.approx(float(path.sigma(s[here][0])), rel=0.2)
    assert float(loss.logs["pcm/at_edge"]) == 1.0
    assert loss.per_example.isfinite().all()


def test_phases_are_even_in_the_angle_and_an_edge_belongs_to_the_phase_below() -> None:
    config = PCMConfig(phases=4)
    assert config.inner_edges(0.5) == pytest.approx([0.5 * math.tan(a * math.pi / 8) for a in (3, 2, 1)])
    assert PCMConfig(phases=2, middle=3.0).inner_edges(0.5) == pytest.approx([3.0])
    assert PCMConfig(phases=3, edges=(5.0, 1.0)).inner_edges(0.5) == (5.0, 1.0)
    assert PCMConfig(phases=1).inner_edges(0.5) == ()
    objective = PCMConfig(phases=3, edges=(5.0, 1.0)).build(FlowMap(TanhNet(), VE), None)
    got = objective.lower_edge(torch.tensor([0.01, 0.99, 1.0, 1.01, 5.0, 5.1, 1000.0]))
    assert got.tolist() == pytest.approx([0.002, 0.002, 0.002, 1.0, 1.0, 5.0, 5.0])


def test_the_grid_of_the_phases_is_one_that_a_model_can_keep(path: Path) -> None:
    config = PCMConfig(phases=3, middle=2.0)
    times = phase_times(config, path)
    assert times[0] == path.t_max
    ratios = path.ratio(torch.tensor(times[1:], dtype=torch.float64)).tolist()
    assert ratios == pytest.approx([2 * math.tan(math.pi / 3), 2 * math.tan(math.pi / 6)])
    network = UNetConfig(widths=(8,), blocks=(1,), channels=1)
    model = ModelConfig(
        kind="flow_map", network=network, modality=ImageModality(size=8, channels=1), path=path, steps=3,
        times={"3": times},
    )  # fmt: skip
    generator = Generator(model.build(), model)
    assert generator.times(3).tolist() == pytest.approx(times)
    x = generator.sample(2, seed=1)  # a network without a second time, asked for jumps between the edges
    assert torch.equal(x, generator.sample(2, seed=1))


@pytest.mark.parametrize("name", sorted(PATHS))
def test_losses_and_gradients_are_finite_at_every_level(name: str) -> None:
    """Levels from far below the first edge to beyond the path, with a target at time 0 among them."""
    student = FlowMap(PlanarNet(8), PATHS[name], boundary=0.0)
    for target in ("data", "heun"):
        config = PCMConfig(phases=3, times=LogNormal(mean=-2.0, std=3.0), target=target)  # type: ignore[arg-type]
        objective = config.build(student, Denoiser(PlanarNet(8), PATHS[name]))
        for progress in (0.0, 1.0):
            loss = objective(torch.randn(500, 2), {}, generator=torch.Generator().manual_seed(0), progress=progress)
            assert loss.per_example.isfinite().all()
            student.zero_grad()
            loss.per_example.mean().backward()
            assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)


def test_both_branches_have_one_dropout_mask() -> None:
    student, answers = FlowMap(PlanarNet(16, dropout=0.5), VE, boundary=0.0), []
    objective = PCMConfig(phases=2, curriculum=RatioCurriculum(q=1000.0, stages=1)).build(student, None)
    objective.train()
    student.net.register_forward_hook(lambda module, args, out: answers.append(out.detach()))
    objective(torch.zeros(500, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.0)
    assert len(answers) == 2
    assert (answers[0] - answers[1]).norm() < 0.05 * answers[0].norm()


def test_two_processes_draw_what_one_does() -> None:
    objective, x0 = PCMConfig().build(FlowMap(WavyNet(), VE, boundary=0.0), None), data(8).float()

    def losses(start: int, stop: int) -> Tensor:
        share = ShardGenerator(torch.Generator().manual_seed(4), start, stop, 8)
        return objective(x0[start:stop], {}, generator=share, progress=0.5).per_example

    torch.testing.assert_close(torch.cat([losses(0, 3), losses(3, 8)]), losses(0, 8), rtol=1e-6, atol=0)


@torch.no_grad()
def judge(model: FlowMap, config: PCMConfig) -> tuple[float, float, float]:
    """Smallest share of a mode, share outside all modes, share in the mode that the ODE leads to."""
    x = sample_gamma(model, NOISE, torch.tensor(phase_times(config, VE)), gamma=0.0)
    return *shares(x), agreement(x, ode_modes(VE, 80.0))


@pytest.mark.timeout(900)  # a few seconds of CPU each, on machines that may be busy
@pytest.mark.usefixtures("_without_type_checks")
@pytest.mark.parametrize(("target", "phases"), [("data", 3), ("heun", 2)])
def test_eight_modes_are_found_in_a_jump_for_each_phase(target: str, phases: int) -> None:
    config = PCMConfig(
        phases=phases, times=LogNormal(mean=-0.8, std=1.6), curriculum=RatioCurriculum(q=4.0, stages=3),
        target=target,  # type: ignore[arg-type]
    )  # fmt: skip
    student = FlowMap(PlanarNet(64), VE, boundary=0.0)
    assert judge(student, config)[1] > 0.7
    objective = config.build(student, MixtureDenoiser(VE, MEANS, WIDTH))
    smallest, outside, same = judge(train(objective, student, steps=350), config)
    assert smallest > 0.04
    assert outside < 0.5
    assert same > 0.85


@pytest.mark.usefixtures("_without_type_checks")  # which would be the first to complain of a misspelt choice
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phases": 0}, "phases must be at least 1, got 0"),
        ({"phases": 3, "edges": (1.0,)}, "3 phases have 2 edges between them"),
        ({"phases": 3, "edges": (1.0, 2.0)}, "edges must be decreasing positive noise levels"),
        ({"phases": 2, "edges": (0.0,)}, "edges must be decreasing positive noise levels"),
        ({"middle": 0.0}, "middle must be a positive noise level, got 0.0"),
        ({"weighting": "snr"}, "weighting must be one of inverse_gap, one, got 'snr'"),
        ({"target": "dpm"}, "target must be one of data, euler, heun, got 'dpm'"),
        ({"label_dropout": 2.0}, "label_dropout must be from 0 to 1, got 2.0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PCMConfig(**options)
