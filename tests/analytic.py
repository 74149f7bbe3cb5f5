r"""Data whose denoiser and flow map are known in closed form, as modules that stand in for trained models.

For data :math:`N(m, s^2)` in each coordinate the marginal on a path is :math:`N(\alpha_t m, v_t)` with
:math:`v_t = \alpha_t^2 s^2 + \sigma_t^2`, so

.. math:: D(x, t) = m + \frac{\alpha_t s^2}{v_t}(x - \alpha_t m), \qquad
          f(x, t, s) = \alpha_s m + \sqrt{v_s / v_t}\,(x - \alpha_t m) .
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unistep.core.flowmap import ConsistencyModel, Denoiser
from unistep.core.path import LinearFlow, Path, TrigFlow, VarianceExploding, VariancePreserving, expand_to


@dataclass(frozen=True, kw_only=True)
class CosinePath(Path):
    r"""A path from outside the package: :math:`\alpha_t = \cos(\pi t / 2), \sigma_t = \sin(\pi t / 2)`."""

    @property
    def t_min(self) -> float:
        return math.atan(0.002) * 2 / math.pi

    @property
    def t_max(self) -> float:
        return math.atan(80.0) * 2 / math.pi

    def alpha(self, t: Tensor) -> Tensor:
        return (0.5 * math.pi * t).cos()

    def sigma(self, t: Tensor) -> Tensor:
        return (0.5 * math.pi * t).sin()

    def d_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * math.pi * self.sigma(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi * self.alpha(t)

    def time_at(self, ratio: Tensor) -> Tensor:
        return ratio.atan() * 2 / math.pi


PATHS: dict[str, Path] = {
    "ve": VarianceExploding(),
    "trig": TrigFlow(),
    "linear": LinearFlow(),
    "vp": VariancePreserving(),
}
"""Every path of the package with its defaults."""
ANY_PATH: dict[str, Path] = {**PATHS, "elsewhere": CosinePath()}
"""Those, and one from outside the package."""


class GaussianDenoiser(Denoiser):
    """The exact denoiser of Gaussian data on any path."""

    def __init__(self, path: Path, mean: float = 0.3, std: float = 0.7) -> None:
        super().__init__(nn.Identity(), path, 0.5)
        self.mean, self.std = mean, std

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        alpha, sigma = expand_to(self.path.alpha(t), x), expand_to(self.path.sigma(t), x)
        gain = alpha * self.std**2 / ((alpha * self.std).square() + sigma.square())
        return self.mean + gain * (x - alpha * self.mean)


class GaussianFlow(ConsistencyModel):
    """The exact flow map of Gaussian data; without ``s`` it jumps to the boundary, as a consistency model does.

    ``gain`` is a trainable factor on the jump, 1 for the exact map, so that a gradient can be asked for.
    """

    def __init__(self, path: Path, mean: float = 0.3, std: float = 0.7, boundary: float | None = None) -> None:
        super().__init__(nn.Identity(), path, 0.5, boundary)
        self.mean, self.std = mean, std
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        s = torch.full_like(t, self.boundary) if s is None else s
        alpha_t, sigma_t, alpha_s, sigma_s = (
            expand_to(f(u), x) for u in (t, s) for f in (self.path.alpha, self.path.sigma)
        )
        v_t, v_s = ((a * self.std).square() + g.square() for a, g in ((alpha_t, sigma_t), (alpha_s, sigma_s)))
        jump = alpha_s * self.mean + (v_s / v_t).sqrt() * (x - alpha_t * self.mean) - x
        return x + self.gain * jump


class GaussianNet(nn.Module):
    r"""A raw network that makes ``Denoiser`` exact for :math:`N(0, s^2)`, on every path at once.

    Solving :math:`D = c_\mathrm{skip} x + c_\mathrm{out} F` for :math:`F` at noise to signal ratio :math:`\eta` gives
    :math:`F(x) = \frac{\eta\,(s^2 - \sigma_d^2)}{\sigma_d (s^2 + \eta^2)} x`.
    """

    def __init__(self, std: float, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.std, self.sigma_data = std, sigma_data

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        eta = expand_to((4 * t).exp(), x)
        return eta * (self.std**2 - self.sigma_data**2) / (self.sigma_data * (self.std**2 + eta.square())) * x


class MixtureDenoiser(Denoiser):
    """The exact denoiser of a mixture of isotropic Gaussians; works for points of shape ``[b, d]``."""

    means: Tensor

    def __init__(self, path: Path, means: Tensor, std: float) -> None:
        super().__init__(nn.Identity(), path, 0.5)
        self.register_buffer("means", means)
        self.std = std

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        alpha, sigma = expand_to(self.path.alpha(t), x), expand_to(self.path.sigma(t), x)
        variance = (alpha * self.std).square() + sigma.square()
        offsets = x[:, None] - alpha[:, None] * self.means
        weights = (-offsets.square().sum(-1) / (2 * variance)).softmax(dim=-1)[..., None]
        return (weights * (self.means + (alpha * self.std**2 / variance)[:, None] * offsets)).sum(dim=1)


def ring(modes: int = 8, radius: float = 0.7) -> Tensor:
    """Centres of a mixture on a circle, shape ``[modes, 2]``."""
    angles = torch.arange(modes) * (2 * math.pi / modes)
    return radius * torch.stack([angles.cos(), angles.sin()], dim=1)


class PlanarNet(nn.Module):
    """A small network for points in the plane that takes and ignores ``s`` and the condition."""

    def __init__(self, width: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        return self.body(torch.cat([x, t[:, None]], dim=1))


class WavyNet(nn.Module):
    """A fixed nonlinear network for signals of any shape that depends on everything it is given; never zero."""

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        phase = expand_to(t if s is None else t + 0.5 * s, x)
        return (2 * x + phase).sin() + 0.3 * x.flatten(1).mean(dim=1).view(-1, *([1] * (x.ndim - 1))) + 0.5


class TanhNet(nn.Module):
    """Another fixed nonlinear network, the teacher of the parity tests."""

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        return 0.7 * (x - 0.2 * expand_to(t, x)).tanh() - 0.1
