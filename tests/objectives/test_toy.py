"""A mixture of eight modes in the plane, learned in seconds: the one-step map is that of the teacher's ODE."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest
import torch

from analytic import MixtureDenoiser, PlanarNet
from planar import MEANS, NOISE, WIDTH, agreement, ode_modes, shares, train
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import VarianceExploding
from unistep.core.sampling import sample_one_step
from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.objectives.base import Objective
from unistep.objectives.cd import CDConfig, ConsistencyDistillation
from unistep.objectives.ect import EasyConsistencyTuning, ECTConfig

VE = VarianceExploding()


@pytest.fixture(autouse=True)
def _without_type_checks() -> Iterator[None]:
    """They take as long as these small networks do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@torch.no_grad()
def judge(model: ConsistencyModel) -> tuple[float, float, float]:
    """Smallest share of a mode (an eighth if perfect), share outside all modes, share in the mode the ODE leads to."""
    x = sample_one_step(model, NOISE)
    return *shares(x), agreement(x, ode_modes(VE, 80.0))


@pytest.mark.timeout(900)  # about ten seconds of CPU each, on machines that may be busy
@pytest.mark.parametrize("kind", ["distillation", "easy"])
def test_eight_modes_are_found_in_one_step(kind: str) -> None:
    net = PlanarNet(96)
    if kind == "distillation":
        student = ConsistencyModel(net, VE)
        objective: Objective = ConsistencyDistillation(student, MixtureDenoiser(VE, MEANS, WIDTH), CDConfig(levels=10))
    else:
        student = ConsistencyModel(net, VE, boundary=0.0)
        config = ECTConfig(times=LogNormal(mean=-0.8, std=1.6), curriculum=RatioCurriculum(q=4.0, stages=3))
        objective = EasyConsistencyTuning(student, None, config)
    untrained = judge(student)
    assert untrained[0] < 0.02
    assert untrained[1] > 0.9
    smallest, outside, same = judge(train(objective, student, steps=600))
    assert smallest > 0.02
    assert outside < 0.7
    assert same > 0.85
