"""Objectives know no unit: data, noise levels and constants in other units give the same loss, in those units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from two_times import TwoTimesNet
from unistep.core.flowmap import ConsistencyModel, Denoiser, Map
from unistep.core.path import Path, TrigFlow, VarianceExploding
from unistep.core.timesteps import DiscretisedLogNormal, HeavyTailed, LogNormal, RatioCurriculum
from unistep.objectives.base import ObjectiveConfig
from unistep.objectives.cd import CDConfig
from unistep.objectives.ct import CTConfig
from unistep.objectives.ctm import CTMConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.distance import PseudoHuber
from unistep.objectives.drifting import DriftingConfig
from unistep.objectives.ect import ECTConfig
from unistep.objectives.ict import ICTConfig
from unistep.objectives.imf import IMFConfig
from unistep.objectives.imm import IMMConfig
from unistep.objectives.meanflow import MeanFlowConfig, MeanFlowDistillationConfig
from unistep.objectives.pcm import PCMConfig
from unistep.objectives.scm import SCMConfig
from unistep.objectives.shortcut import ShortcutConfig
from unistep.objectives.tcm import TCMConfig
from unistep.objectives.time_pairs import LogitNormalPairs

UNIT = 8.0
"""A power of two, so that only the logarithms round."""


class InUnits(nn.Module):
    """A network that is told noise levels in units of its own."""

    def __init__(self, net: nn.Module, unit: float) -> None:
        super().__init__()
        self.net, self.shift = net, math.log(unit) / 4

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        return self.net(x, t - self.shift, t * 0 if s is None else s - self.shift, condition)


@dataclass(frozen=True, kw_only=True)
class Case:
    """An objective whose noise levels and constants are given in a unit."""

    config: Callable[[float], ObjectiveConfig]
    power: int
    """The loss has the unit to this power."""
    path: type[Path] = VarianceExploding
    boundary: float | None = None


def ln(mean: float, std: float, unit: float) -> LogNormal:
    return LogNormal(mean=mean + math.log(unit), std=std)


def pairs(unit: float) -> LogitNormalPairs:
    return LogitNormalPairs(mean=-0.6 + math.log(unit), mean_r=-4 + math.log(unit))


def closer(unit: float, q: float = 2.0, stages: int = 8) -> RatioCurriculum:
    return RatioCurriculum(q=q, stages=stages, b=1 / unit)


CASES = {
    "denoising": Case(config=lambda u: DenoisingConfig(times=ln(-1.2, 1.2, u)), power=0),
    "cd": Case(config=lambda u: CDConfig(), power=2),
    "ct": Case(config=lambda u: CTConfig(), power=2),
    "ict": Case(
        config=lambda u: ICTConfig(law=DiscretisedLogNormal(mean=-1.1 + math.log(u)), distance=PseudoHuber(c=0.1 * u)),
        power=0,
    ),
    "ect": Case(config=lambda u: ECTConfig(times=ln(-1.1, 2, u), curriculum=closer(u)), power=0, boundary=0.0),
    "ect-heun-snr": Case(
        config=lambda u: ECTConfig(times=ln(-1.1, 2, u), curriculum=closer(u), target="heun", weighting="snr_plus_k"),
        power=-1,
        boundary=0.0,
    ),
    "sct": Case(
        config=lambda u: SCMConfig(times=ln(-1, 1.4, u), adaptive=False, c=0.1 * u),
        power=0,
        path=TrigFlow,
        boundary=0.0,
    ),
    "scd": Case(
        config=lambda u: SCMConfig(times=ln(-1, 1.4, u), adaptive=False, c=0.1 * u, target="teacher"),
        power=0,
        path=TrigFlow,
        boundary=0.0,
    ),
    "tcm": Case(
        config=lambda u: TCMConfig(
            transition=u, times=HeavyTailed(mean=math.log(u)), curriculum=closer(u, q=16, stages=1)
        ),
        power=0,
        boundary=0.0,
    ),
    "pcm": Case(config=lambda u: PCMConfig(times=ln(-1.1, 2, u), curriculum=closer(u)), power=0),
    "ctm": Case(config=lambda u: CTMConfig(denoising_weight=u**2, denoising_times=ln(-1.2, 1.2, u)), power=2),
    "meanflow": Case(config=lambda u: MeanFlowConfig(times=pairs(u), power=0.0), power=2, path=TrigFlow),
    "meanflow-distillation": Case(
        config=lambda u: MeanFlowDistillationConfig(times=pairs(u), power=1.0, eps=1e-3 * u**2), power=0, path=TrigFlow
    ),
    "imf": Case(config=lambda u: IMFConfig(times=pairs(u), power=0.0), power=2, path=TrigFlow),
    "shortcut": Case(config=lambda u: ShortcutConfig(), power=2, path=TrigFlow),
    "imm-linear": Case(config=lambda u: IMMConfig(floor=1e-8 * u), power=0),
    "imm-cosine": Case(config=lambda u: IMMConfig(floor=1e-8 * u, trajectory="cosine"), power=0, path=TrigFlow),
    "drifting": Case(config=lambda u: DriftingConfig(group=6), power=0),
}


def loss_and_gradient(case: Case, unit: float) -> tuple[Tensor, Tensor]:
    """Losses of a batch whose data, noise and constants are in ``unit``, and the gradient of their mean."""
    sigma_data, ends = 0.5 * unit, {"sigma_min": 0.002 * unit, "sigma_max": 80 * unit}
    path = TrigFlow(sigma_data=sigma_data, **ends) if case.path is TrigFlow else VarianceExploding(**ends)
    exploding, config = VarianceExploding(**ends), case.config(unit)
    torch.manual_seed(0)
    net, teacher_net = (InUnits(TwoTimesNet(16), unit).double() for _ in range(2))

    def build(kind: type[Map], net: nn.Module, path: Path) -> Map:
        boundary = () if kind is Denoiser else (case.boundary,)
        return kind(net, path, sigma_data, *boundary)

    teacher = build(config.teacher_kind, teacher_net, path if config.teacher_kind is ConsistencyModel else exploding)
    objective = config.build(build(config.trains, net, path), teacher)  # type: ignore[arg-type]
    x0 = 0.5 * torch.randn(24, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss = objective(x0 * unit, {}, generator=torch.Generator().manual_seed(2), progress=0.4).per_example
    gradient = torch.autograd.grad(loss.mean(), list(net.parameters()))
    return loss.detach(), torch.cat([g.flatten() for g in gradient])


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_the_same_in_other_units(name: str) -> None:
    case = CASES[name]
    (loss, gradient), (in_units, gradient_in_units) = (loss_and_gradient(case, unit) for unit in (1.0, UNIT))
    factor = UNIT**case.power
    torch.testing.assert_close(in_units, factor * loss, rtol=1e-3, atol=1e-5 * factor * loss.abs().max().item())
    error = (gradient_in_units - factor * gradient).norm() / (factor * gradient).norm()
    assert gradient.norm() > 0
    assert error < 1e-3
