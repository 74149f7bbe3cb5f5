"""A mixture of eight modes in the plane, learned in seconds: the one-step map is that of the teacher's ODE."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from analytic import MixtureDenoiser, PlanarNet, ring
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import VarianceExploding
from unistep.core.sampling import sample_one_step
from unistep.core.solvers import sample_ode
from unistep.core.timesteps import LogNormal, RatioCurriculum, karras_grid
from unistep.objectives.base import Objective
from unistep.objectives.cd import CDConfig, ConsistencyDistillation
from unistep.objectives.ect import EasyConsistencyTuning, ECTConfig

VE = VarianceExploding()
MEANS, STD, NEAR = ring(8), 0.05, 0.2
NOISE = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _without_type_checks() -> Iterator[None]:
    """They take as long as these small networks do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def data(num: int, generator: torch.Generator) -> Tensor:
    modes = torch.randint(8, (num,), generator=generator)
    return MEANS[modes] + STD * torch.randn(num, 2, generator=generator)


def train(objective: Objective, steps: int) -> nn.Module:
    """Adam with a constant and then falling rate; the average of the weights is what is judged."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(objective.student.parameters(), lr=3e-3, betas=(0.9, 0.99))
    average = copy.deepcopy(objective.student)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, 2 * (steps - step) / steps)
        loss = objective(data(128, generator), {}, generator=generator, progress=step / steps)
        optimizer.zero_grad()
        loss.per_example.mean().backward()
        optimizer.step()
        objective.after_step((step + 1) / steps)
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), objective.student.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
    return average


@torch.no_grad()
def judge(model: ConsistencyModel) -> tuple[float, float, float]:
    """Smallest share of a mode (an eighth if perfect), share outside all modes, share in the mode the ODE leads to."""
    distance, mode = torch.cdist(sample_one_step(model, NOISE), MEANS).min(dim=1)
    ode = sample_ode(MixtureDenoiser(VE, MEANS, STD), NOISE, karras_grid(40, 0.002, 80.0))
    assert (torch.cdist(ode, MEANS).amin(dim=1) < NEAR).all()
    shares = torch.bincount(mode[distance < NEAR], minlength=8) / len(NOISE)
    same = (mode == torch.cdist(ode, MEANS).argmin(dim=1)).float().mean()
    return shares.min().item(), (distance >= NEAR).float().mean().item(), same.item()


@pytest.mark.timeout(900)  # about ten seconds of CPU each, on machines that may be busy
@pytest.mark.parametrize("kind", ["distillation", "easy"])
def test_eight_modes_are_found_in_one_step(kind: str) -> None:
    net = PlanarNet(96)
    if kind == "distillation":
        student = ConsistencyModel(net, VE)
        objective: Objective = ConsistencyDistillation(student, MixtureDenoiser(VE, MEANS, STD), CDConfig(levels=10))
    else:
        student = ConsistencyModel(net, VE, boundary=0.0)
        config = ECTConfig(times=LogNormal(mean=-0.8, std=1.6), curriculum=RatioCurriculum(q=4.0, stages=3))
        objective = EasyConsistencyTuning(student, None, config)
    untrained = judge(student)
    assert untrained[0] < 0.02
    assert untrained[1] > 0.5
    smallest, outside, same = judge(train(objective, 2000))  # type: ignore[arg-type]
    assert smallest > 0.05
    assert outside < 0.35
    assert same > 0.85
