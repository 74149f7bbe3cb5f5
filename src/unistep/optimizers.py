"""Optimizers as configurations, for a run and for parts of an objective that have one of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from unistep.spelling import check_choices, nearest

LARGEST_RATE = 1e3
"""No weight survives a larger learning rate."""
ADAM_BETAS = (0.9, 0.99)
"""Decays of the moments of the Adam that steps what Muon does not."""


@dataclass(frozen=True, kw_only=True)
class MuonConfig:
    """Muon for hidden matrices, Adam for the rest: the fewest images for a given quality in our measurements."""

    lr: float = 3e-3
    """Peak learning rate of the hidden matrices."""
    adam_lr: float = 1e-3
    """Peak learning rate of the other parameters."""
    momentum: float = 0.95
    """Decay of the momentum."""
    weight_decay: float = 0.01
    """Decoupled weight decay of the hidden matrices."""

    @property
    def adam(self) -> AdamConfig:
        """AdamW for the hidden matrices, too, as it is for the rest."""
        return AdamConfig(lr=self.adam_lr, betas=ADAM_BETAS)

    def __post_init__(self) -> None:
        _check_rates(lr=self.lr, adam_lr=self.adam_lr)
        _check_shares(momentum=self.momentum)
        _check_decay(self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Adam, AdamW or RAdam, as the papers use them."""

    kind: Literal["adamw", "radam"] = "adamw"
    """``adamw`` (Adam with decoupled decay) or ``radam`` (CT, iCT and ECT)."""
    lr: float = 1e-3
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decays of the moments."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""

    def __post_init__(self) -> None:
        check_choices(self)
        _check_rates(lr=self.lr)
        _check_shares(**{f"betas[{i}]": beta for i, beta in enumerate(self.betas)})
        _check_decay(self.weight_decay)


OptimizerConfig = MuonConfig | AdamConfig
"""The optimizers that a configuration can name."""

OPTIMIZERS = ("muon", "adamw", "radam")
"""What they are called on the command line."""

OptimizerMaker = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""Any other optimizer: a function of the parameters that it steps."""


def named_optimizer(name: str, like: OptimizerConfig) -> OptimizerConfig:
    """The optimizer of a name, at the rates of another.

    A step of Muon is as long as one of Adam at the same rate (Liu et al. 2025, arXiv 2502.16982).

    Args:
        name: One of :data:`OPTIMIZERS`.
        like: Whose rates it has.

    Raises:
        ValueError: If there is no such optimizer.
    """
    if name == "muon":
        return like if isinstance(like, MuonConfig) else MuonConfig(lr=like.lr, adam_lr=like.lr)
    plain = like.adam if isinstance(like, MuonConfig) else like
    if name == "adamw":
        return replace(plain, kind="adamw")
    if name == "radam":
        return replace(plain, kind="radam")
    raise ValueError(f"unknown optimizer {name!r}; {nearest(name, OPTIMIZERS)}")


def _check_rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not 0 < rate <= LARGEST_RATE:
            raise ValueError(f"{name} must be above 0 and at most {LARGEST_RATE:g}, got {rate}")


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name} must be from 0 to below 1, got {share}")


def _check_decay(decay: float) -> None:
    if not 0 <= decay < math.inf:
        raise ValueError(f"weight_decay must be a finite number, 0 or more, got {decay}")
