"""Stand-ins for models of two times: the exact flow map of Gaussian data, and a toy in the plane."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analytic import WavyNet
from planar import NOISE, agreement, ode_modes, shares
from unistep.core.flowmap import FlowMap
from unistep.core.path import LinearFlow, Path, expand_to
from unistep.core.sampling import sample_gamma
from unistep.core.seeding import Randomness, ShardGenerator
from unistep.objectives.base import Objective
from unistep.objectives.time_pairs import UniformPairs

MEAN, STD = 0.3, 0.7


class GaussianFlowMap(FlowMap):
    r"""The exact average velocity :math:`u = (f(x, t, s) - x) / (s - t)` of Gaussian data, times a trainable ``gain``.

    At ``s = t`` it is the velocity of the ODE. Its derivative there is not that of the limit, but it is finite, and
    every identity multiplies it by ``t - s``.
    """

    def __init__(self, path: Path, boundary: float | None = None) -> None:
        super().__init__(nn.Identity(), path, 0.5, boundary)
        self.gain = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def velocity(self, x: Tensor, t: Tensor, s: Tensor, condition: object = None) -> Tensor:
        path = self.path
        alpha_t, sigma_t, alpha_s, sigma_s = (expand_to(f(u), x) for u in (t, s) for f in (path.alpha, path.sigma))
        d_alpha, d_sigma = expand_to(path.d_alpha(t), x), expand_to(path.d_sigma(t), x)
        v_t, v_s = ((a * STD).square() + g.square() for a, g in ((alpha_t, sigma_t), (alpha_s, sigma_s)))
        offset = x - alpha_t * MEAN
        limit = d_alpha * MEAN + (alpha_t * d_alpha * STD**2 + sigma_t * d_sigma) / v_t * offset
        jump = (alpha_s - alpha_t) * MEAN + ((v_s / v_t).sqrt() - 1) * offset
        same = expand_to(s == t, x)
        return self.gain * torch.where(same, limit, jump / torch.where(same, 1.0, expand_to(s - t, x)))


class TwoTimesNet(nn.Module):
    """A small network for points in the plane that takes both times and ignores the condition."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(4, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, s: Tensor, condition: object) -> Tensor:
        return self.body(torch.cat([x, t[:, None], s[:, None]], dim=1))


LINEAR = LinearFlow()
TOY = LinearFlow(sigma_max=20.0)
"""The path of the toy; at its end the modes are 3 % of the noise."""


def gaussian_data(num: int, size: int = 4) -> Tensor:
    """Data whose map is :class:`GaussianFlowMap`."""
    return MEAN + STD * torch.randn(num, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def loss_and_slope(objective: Objective, student: GaussianFlowMap, x0: Tensor, seed: int = 1) -> tuple[Tensor, float]:
    """Losses of a batch and the derivative of their mean in the student's gain, at a fixed seed."""
    loss = objective(x0, {}, generator=torch.Generator().manual_seed(seed), progress=0.5).per_example
    assert loss.shape == (len(x0),)
    (slope,) = torch.autograd.grad(loss.mean(), student.gain)
    return loss.detach(), slope.item()


@torch.no_grad()
def judge(model: FlowMap, times: list[float]) -> tuple[float, float, float]:
    """Smallest share of a mode (an eighth if perfect), share outside all modes, share in the mode the ODE leads to."""
    x = sample_gamma(model, NOISE, torch.tensor([model.path.t_max, *times]))
    return *shares(x), agreement(x, ode_modes(model.path, 20.0))


@dataclass(frozen=True, kw_only=True)
class GivenPairs(UniformPairs):
    """A law that answers the given times of the straight path."""

    t: tuple[float, ...]
    r: tuple[float, ...]

    def draw(self, num: int, generator: Randomness) -> tuple[Tensor, Tensor]:
        t, r = (torch.tensor(values, dtype=torch.float64) for values in (self.t, self.r))
        return t / (1 - t), r / (1 - r)


class LabelledNet(WavyNet):
    """A fixed nonlinear network that also depends on the label, -1 for none."""

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        assert isinstance(condition, dict)
        value = condition.get("label")
        label = torch.full_like(t, -1) if value is None else next(iter(value.tensors.values()))
        label = expand_to(label.to(x), x)
        return super().forward(x, t, s, None) * (1 + 0.2 * label) + 0.1 * label


def shares_add_up(objective: Objective, x0: Tensor, condition: dict[str, Tensor]) -> bool:
    """Whether two shares of a batch, each with its share of the draws, have the losses of the whole batch."""
    num = len(x0)

    def losses(start: int, stop: int) -> Tensor:
        generator = ShardGenerator(torch.Generator().manual_seed(3), start, stop, num)
        told = {name: value[start:stop] for name, value in condition.items()}
        return objective(x0[start:stop], told, generator=generator, progress=0.5).per_example.detach()

    whole, parts = losses(0, num), torch.cat([losses(0, num // 4), losses(num // 4, num)])
    assert whole.unique().numel() == num
    return torch.allclose(whole, parts, rtol=1e-9, atol=1e-12)
