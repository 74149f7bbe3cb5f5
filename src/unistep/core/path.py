r"""Probability paths between data and noise: :math:`x_t = \alpha_t x_0 + \sigma_t z` with :math:`z \sim N(0, I)`.

Every path here carries *standard* normal noise, so that one noise tensor can be read on any of them; TrigFlow's
data scale sits in its :math:`\sigma_t`. Two points on two paths describe the same noisy signal when their noise to
signal ratios :math:`\sigma_t / \alpha_t` agree; :func:`match_snr` moves between them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def expand_to(t: Shaped[Tensor, "b *levels"], x: Shaped[Tensor, "b *shape"]) -> Shaped[Tensor, "b *ones"]:
    """View one number for each item, ``[b]``, as ``[b, 1, ...]``, so that it broadcasts against ``x``.

    A tensor that has all dimensions of ``x``, such as ``[b, 1, frames, 1, 1]`` for a time for each frame, stays as it
    is.

    Raises:
        ValueError: If ``t`` has another shape.
    """
    if t.ndim == 1:
        return t.view(-1, *([1] * (x.ndim - 1)))
    if t.ndim != x.ndim or any(n not in (1, m) for n, m in zip(t.shape, x.shape, strict=True)):
        raise ValueError(
            f"times must have shape [{len(x)}] or broadcast against a signal of shape {list(x.shape)}, "
            f"got {list(t.shape)}"
        )
    return t


@dataclass(frozen=True, kw_only=True)
class Path(ABC):
    """A path from data (``t_min``) to noise (``t_max``), given by two functions of time and their derivatives."""

    @property
    @abstractmethod
    def t_min(self) -> float:
        """Smallest time that a network sees; the boundary of consistency models."""

    @property
    @abstractmethod
    def t_max(self) -> float:
        """Largest time; sampling starts here."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        r"""Signal scale :math:`\alpha_t`."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        r"""Noise scale :math:`\sigma_t`."""

    @abstractmethod
    def d_alpha(self, t: Tensor) -> Tensor:
        r"""Derivative :math:`\mathrm{d}\alpha_t / \mathrm{d}t`."""

    @abstractmethod
    def d_sigma(self, t: Tensor) -> Tensor:
        r"""Derivative :math:`\mathrm{d}\sigma_t / \mathrm{d}t`."""

    @abstractmethod
    def time_at(self, ratio: Tensor) -> Tensor:
        r"""Inverse of :meth:`ratio`: the time at which :math:`\sigma_t/\alpha_t` has the given value."""

    def ratio(self, t: Tensor) -> Tensor:
        r"""Noise to signal ratio :math:`\sigma_t / \alpha_t`, the noise level of the equivalent EDM path."""
        # The cosine of the float32 nearest pi/2 is slightly negative; the ratio there is infinite, not -1e7.
        return self.sigma(t) / self.alpha(t).clamp(min=0)

    def log_snr(self, t: Tensor) -> Tensor:
        r"""Log signal to noise ratio :math:`\lambda_t = 2 \ln(\alpha_t/\sigma_t)`."""
        return -2 * self.ratio(t).log()

    def perturb(
        self, x0: Float[Tensor, "b *shape"], noise: Float[Tensor, "b *shape"], t: Float[Tensor, "b *levels"]
    ) -> Float[Tensor, "b *shape"]:
        r"""Noisy signal :math:`x_t = \alpha_t x_0 + \sigma_t z`."""
        return expand_to(self.alpha(t), x0) * x0 + expand_to(self.sigma(t), x0) * noise

    def velocity(
        self, x0: Float[Tensor, "b *shape"], noise: Float[Tensor, "b *shape"], t: Float[Tensor, "b *levels"]
    ) -> Float[Tensor, "b *shape"]:
        r"""Velocity of one pair, :math:`\dot x_t = \dot\alpha_t x_0 + \dot\sigma_t z`."""
        return expand_to(self.d_alpha(t), x0) * x0 + expand_to(self.d_sigma(t), x0) * noise

    def velocity_from_denoised(
        self, x_t: Float[Tensor, "b *shape"], x0: Float[Tensor, "b *shape"], t: Float[Tensor, "b *levels"]
    ) -> Float[Tensor, "b *shape"]:
        r"""Velocity of the probability-flow ODE at ``x_t`` when the denoiser's estimate is ``x0``.

        .. math:: v = \dot\alpha_t \hat x_0 + \dot\sigma_t (x_t - \alpha_t \hat x_0) / \sigma_t

        On the variance-exploding path this is :math:`(x_t - \hat x_0)/t` (Karras et al. 2022, equation 3).
        """
        noise = (x_t - expand_to(self.alpha(t), x_t) * x0) / expand_to(self.sigma(t), x_t)
        return self.velocity(x0, noise, t)

    def denoised_from_velocity(
        self, x_t: Float[Tensor, "b *shape"], v: Float[Tensor, "b *shape"], t: Float[Tensor, "b *levels"]
    ) -> Float[Tensor, "b *shape"]:
        r"""Inverse of :meth:`velocity_from_denoised`.

        .. math:: \hat x_0 = (\sigma_t v - \dot\sigma_t x_t) / (\sigma_t \dot\alpha_t - \dot\sigma_t \alpha_t)
        """
        alpha, sigma, d_alpha, d_sigma = (
            expand_to(f(t), x_t) for f in (self.alpha, self.sigma, self.d_alpha, self.d_sigma)
        )
        return (sigma * v - d_sigma * x_t) / (sigma * d_alpha - d_sigma * alpha)


@dataclass(frozen=True, kw_only=True)
class VarianceExploding(Path):
    r"""EDM's path: :math:`\alpha_t = 1, \sigma_t = t` (Karras et al. 2022, arXiv 2206.00364)."""

    sigma_min: float = 0.002
    """Smallest noise level."""
    sigma_max: float = 80.0
    """Largest noise level."""

    @property
    def t_min(self) -> float:
        return self.sigma_min

    @property
    def t_max(self) -> float:
        return self.sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def time_at(self, ratio: Tensor) -> Tensor:
        return ratio


@dataclass(frozen=True, kw_only=True)
class TrigFlow(Path):
    r"""The circular path :math:`\alpha_t = \cos t, \sigma_t = \sigma_d \sin t` (Lu & Song 2024, arXiv 2410.11081,
    section 3.1, with their noise :math:`\sigma_d z` written as a scale times standard noise).
    """

    sigma_data: float = 0.5
    """Standard deviation of the data."""
    sigma_min: float = 0.002
    """Smallest noise to signal ratio."""
    sigma_max: float = 80.0
    """Largest noise to signal ratio."""

    @property
    def t_min(self) -> float:
        return math.atan(self.sigma_min / self.sigma_data)

    @property
    def t_max(self) -> float:
        return math.atan(self.sigma_max / self.sigma_data)

    def alpha(self, t: Tensor) -> Tensor:
        return t.cos()

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_data * t.sin()

    def d_alpha(self, t: Tensor) -> Tensor:
        return -t.sin()

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.sigma_data * t.cos()

    def time_at(self, ratio: Tensor) -> Tensor:
        return (ratio / self.sigma_data).atan()


@dataclass(frozen=True, kw_only=True)
class LinearFlow(Path):
    r"""Flow matching's straight path :math:`\alpha_t = 1 - t, \sigma_t = t` (Lipman et al. 2023, arXiv 2210.02747;
    Liu et al. 2023, arXiv 2209.03003), with noise at ``t = 1``.
    """

    sigma_min: float = 0.002
    """Smallest noise to signal ratio that a network sees."""
    sigma_max: float = 80.0
    """Largest noise to signal ratio; infinity starts at ``t = 1``, which no grid of noise levels can reach."""

    @property
    def t_min(self) -> float:
        return self.sigma_min / (1 + self.sigma_min)

    @property
    def t_max(self) -> float:
        return 1 / (1 + 1 / self.sigma_max)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def time_at(self, ratio: Tensor) -> Tensor:
        return 1 / (1 + 1 / ratio)  # right at zero and at infinity, and accurate close to both


@dataclass(frozen=True, kw_only=True)
class VariancePreserving(Path):
    r"""The VP-SDE's path with linear :math:`\beta` (Song et al. 2021, arXiv 2011.13456, equation 32).

    .. math:: \alpha_t = e^{-B_t/2}, \quad \sigma_t = \sqrt{1 - e^{-B_t}}, \quad
              B_t = \tfrac12 \beta_d t^2 + \beta_{\min} t
    """

    beta_min: float = 0.1
    r""":math:`\beta` at time zero."""
    beta_d: float = 19.9
    r"""Increase of :math:`\beta` over the unit interval."""
    epsilon: float = 1e-3
    """Smallest time."""

    @property
    def t_min(self) -> float:
        return self.epsilon

    @property
    def t_max(self) -> float:
        return 1.0

    def _integral(self, t: Tensor) -> Tensor:
        return 0.5 * self.beta_d * t.square() + self.beta_min * t

    def alpha(self, t: Tensor) -> Tensor:
        return (-0.5 * self._integral(t)).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self._integral(t))).sqrt()

    def d_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * (self.beta_d * t + self.beta_min) * self.alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def time_at(self, ratio: Tensor) -> Tensor:
        integral = torch.log1p(ratio.square())
        # The root of the quadratic without a difference of close numbers, which small times would lose.
        return 2 * integral / ((self.beta_min**2 + 2 * self.beta_d * integral).sqrt() + self.beta_min)


def match_snr(
    x_t: Float[Tensor, "b *shape"], t: Float[Tensor, "b *levels"], source: Path, target: Path
) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b *levels"]]:
    r"""The point of ``target`` that carries the same information as ``x_t`` on ``source``.

    .. math:: t' : \frac{\sigma'_{t'}}{\alpha'_{t'}} = \frac{\sigma_t}{\alpha_t}, \qquad
              x' = \frac{\alpha'_{t'}}{\alpha_t} x_t

    Args:
        x_t: Noisy signal on ``source``, shape ``[b, *shape]``.
        t: Its times on ``source``, shape ``[b]`` or broadcasting against ``x_t``.
        source: The path that ``x_t`` lies on.
        target: The path to read it on.

    Returns:
        The rescaled signal and its times on ``target``.
    """
    if source == target:
        return x_t, t
    t_target = target.time_at(source.ratio(t))
    # The ratio of the sigmas equals that of the alphas and stays finite where the signal vanishes.
    by_alpha = target.alpha(t_target) / source.alpha(t)
    by_sigma = target.sigma(t_target) / source.sigma(t)
    scale = torch.where(source.ratio(t) < 1, by_alpha, by_sigma)
    return expand_to(scale, x_t) * x_t, t_target
