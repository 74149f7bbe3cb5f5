"""Averages of the weights along training: the weights that samples are drawn from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ConstantEMA:
    """Exponential average with a constant half-life, shorter at the start of training."""

    half_life: float = 25_000
    """Number of images after which an old weight counts half."""
    ramp: float = 0.1
    """The half-life is at most this share of the images seen so far, so that the random start is forgotten; 0 for no
    such bound."""

    def __post_init__(self) -> None:
        if not (self.half_life > 0 and self.ramp >= 0):
            raise ValueError(f"half_life must be positive and ramp 0 or more, got {self.half_life:g} and {self.ramp:g}")

    @property
    def name(self) -> str:
        """Short name for files and logs."""
        return f"ema-{self.half_life:g}"

    def decay(self, step: int, batch_size: int) -> float:
        """Decay at optimizer step ``step`` (from 1)."""
        half_life = min(self.half_life, self.ramp * step * batch_size) if self.ramp else self.half_life
        return 0.5 ** (batch_size / max(half_life, 1e-8))


@dataclass(frozen=True, kw_only=True)
class PowerEMA:
    r"""Power-function average: :math:`\theta(t) \propto \int_0^t \tau^\gamma \theta(\tau)\,\mathrm{d}\tau`.

    Its width grows with training, so one setting serves every budget.

    References:
        Karras et al. 2024, arXiv 2312.02696, equations 127 and 123 (the update and :math:`\gamma` from the width).
    """

    sigma_rel: float = 0.1
    """Standard deviation of the averaging profile, as a share of the training so far; below 0.28."""

    def __post_init__(self) -> None:
        if not 0 < self.sigma_rel < 0.28:
            raise ValueError(f"sigma_rel must be between 0 and 0.28, got {self.sigma_rel}")

    @property
    def name(self) -> str:
        """Short name for files and logs."""
        return f"power-{self.sigma_rel:g}"

    @property
    def gamma(self) -> float:
        r"""The exponent, largest real root of :math:`\gamma^3 + 7\gamma^2 + (16 - s^{-2})\gamma + (12 - s^{-2})`."""
        inverse = self.sigma_rel**-2
        return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())

    def decay(self, step: int, batch_size: int) -> float:
        r"""Decay at optimizer step ``step`` (from 1), :math:`(1 - 1/t)^{\gamma + 1}`."""
        del batch_size
        return (1 - 1 / step) ** (self.gamma + 1)


EMAConfig = ConstantEMA | PowerEMA
"""The averages that a run can keep."""


class EMA:
    """A running average of some parameters.

    Args:
        config: How it forgets.
        parameters: What it follows.
    """

    def __init__(self, config: EMAConfig, parameters: Iterable[nn.Parameter]) -> None:
        self.config = config
        self.followed = list(parameters)
        self.average: list[Tensor] = [p.detach().clone() for p in self.followed]

    @torch.no_grad()
    def update(self, step: int, batch_size: int) -> None:
        """Take in the parameters after optimizer step ``step`` (from 1)."""
        weight = 1 - self.config.decay(step, batch_size)
        torch._foreach_lerp_(self.average, [p.detach() for p in self.followed], weight)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the followed parameters in place; call again to go back."""
        for p, a in zip(self.followed, self.average, strict=True):
            held = p.detach().clone()
            p.copy_(a)
            a.copy_(held)
