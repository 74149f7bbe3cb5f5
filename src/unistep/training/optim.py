"""Optimizers by configuration, and the learning rate along training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unistep.objectives.base import Objective
from unistep.precision import Precision
from unistep.training.muon import Muon, hidden_matrices
from unistep.training.parallel import whole

LARGEST_RATE = 1e3
"""No weight survives a larger one."""


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
        _check_rates(lr=self.lr)
        _check_shares(**{f"betas[{i}]": beta for i, beta in enumerate(self.betas)})
        _check_decay(self.weight_decay)


OptimizerConfig = MuonConfig | AdamConfig
"""The optimizers that a configuration can name."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, a constant stretch, and a linear descent to zero at the end."""

    warmup_steps: int = 100
    """Optimizer steps of the warm-up."""
    decay: float = 0.5
    """Share of the training, at its end, in which the rate goes down to zero; 0 keeps it constant."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or not 0 <= self.decay <= 1:
            raise ValueError(f"warmup_steps must not be negative and decay must be in [0, 1], got {self}")

    def factor(self, step: int, progress: float) -> float:
        """What the peak rate is multiplied with at ``step`` (from 0) and ``progress`` in [0, 1]."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        return warm * (min(1.0, (1 - progress) / self.decay) if self.decay else 1.0)


def build_optimizer(
    config: OptimizerConfig, net: nn.Module, module: nn.Module, precision: Precision = "fp32"
) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters of ``module``, an objective around the raw network ``net``.

    Muon orthogonalises in ``precision``, the arithmetic of the run; momentum and weights stay in float32.

    Parts with a rate of their own get it in a group of their own: of Adam, and without decay.
    """
    parts = [(list(part.parameters()), rate) for part, rate in _param_groups(module)]
    apart = {id(p) for parameters, _ in parts for p in parameters}
    trainable = [p for p in module.parameters() if p.requires_grad and id(p) not in apart]
    optimizer = _build(config, net, trainable, precision)
    for parameters, rate in parts:
        group = {"params": parameters, "lr": rate, "betas": (0.5, 0.99)}
        optimizer.add_param_group(group | ({"muon": False} if isinstance(config, MuonConfig) else {"weight_decay": 0}))
    return optimizer


def _param_groups(module: nn.Module) -> list[tuple[nn.Module, float]]:
    return module.param_groups() if isinstance(module, Objective) else []


def _build(
    config: OptimizerConfig, net: nn.Module, trainable: list[nn.Parameter], precision: Precision
) -> torch.optim.Optimizer:
    if isinstance(config, AdamConfig):
        maker = torch.optim.AdamW if config.kind == "adamw" else torch.optim.RAdam
        return maker(trainable, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
    matrices = hidden_matrices(net, getattr(net, "boundary_layers", ()))
    hidden = {id(p) for p in matrices}
    return Muon(
        matrices,
        [p for p in trainable if id(p) not in hidden],
        lr=config.lr,
        adam_lr=config.adam_lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        dtype=torch.bfloat16 if precision == "bf16" else None,
    )


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


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to its peak times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("peak_lr", group["lr"]) * factor


def clip_gradients(parameters: list[nn.Parameter], largest: float) -> Tensor:
    """Shorten the gradient to the norm ``largest`` and return the norm it had; non-finite ones are left alone.

    The norm stays on the device, so that nothing waits for it.
    """
    norm = whole(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm.where(norm.isfinite(), 0.0))
    return norm
