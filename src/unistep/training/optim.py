"""Building the optimizers of a run, the learning rate along training, and clipping."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unistep.core.flowmap import Map
from unistep.objectives.base import Objective, ParamGroup
from unistep.optimizers import ADAM_BETAS, AdamConfig, MuonConfig, OptimizerConfig
from unistep.precision import Precision
from unistep.training.muon import Muon, hidden_matrices
from unistep.training.parallel import unwrapped, whole

__all__ = [
    "AdamConfig",
    "MuonConfig",
    "OptimizerConfig",
    "RunOptimizer",
    "Schedule",
    "build_optimizer",
    "clip_gradients",
    "clip_groups",
    "set_rates",
]

REST = "rest"
"""Name of the group of all parameters that no group of the objective holds."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    r"""Linear warm-up, a constant stretch, and a linear descent to zero at the end.

    Muon and Adam take steps of a length that follows from the rate, not from the gradient, so that half as many steps
    bring the weights half as far. With :attr:`meant_for` a run of fewer steps takes longer ones:

    .. math:: \mathrm{rate} = \mathrm{peak} \cdot w(i)\, d(p) \cdot
        \min\big(\max(M\, \Delta p, 1),\; \mathrm{longest}\big)

    with the warm-up :math:`w`, the descent :math:`d`, the :math:`M` steps that the peak is meant for and the progress
    :math:`\Delta p` of one step, which is one over the number of steps. What a step makes of progress and how far it
    goes are then in proportion, also where a deadline changes the number of steps on the way.
    """

    warmup_steps: int = 100
    """Optimizer steps of the warm-up."""
    decay: float = 0.5
    """Share of the training, at its end, in which the rate goes down to zero; 0 keeps it constant."""
    meant_for: int = 0
    """Number of optimizer steps that the peak rates are meant for; a run of fewer has larger ones, in proportion. With
    0 the rates are the same for every length."""
    longest: float = 4.0
    """Most that the peak rates are multiplied with for it."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or not 0 <= self.decay <= 1:
            raise ValueError(f"warmup_steps must not be negative and decay must be in [0, 1], got {self}")
        if self.meant_for < 0 or not 1 <= self.longest < math.inf:
            raise ValueError(f"meant_for must be 0 or more and longest at least 1, got {self}")

    def factor(self, step: int, progress: float, share: float = 0.0) -> float:
        """What the peak rate is multiplied with.

        Args:
            step: Number of the step, from 0.
            progress: Share of the training that is done when it begins, in [0, 1].
            share: Share of the training that the step is, for :attr:`meant_for`.
        """
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        length = min(max(self.meant_for * share, 1.0), self.longest)
        return length * warm * (min(1.0, (1 - progress) / self.decay) if self.decay else 1.0)


@dataclass(frozen=True)
class SteppedGroup:
    """The optimizers of one parameter group."""

    name: str
    """Name of the group."""
    optimizers: Sequence[torch.optim.Optimizer]
    """What steps it: one, or Muon and Adam."""
    every: int = 1
    """It steps at every so many steps of the run, from the first on."""


class RunOptimizer:
    """All optimizers of a run, each group with its cadence; what a run saves and restores of them is in one place.

    Args:
        groups: The parameter groups.
    """

    def __init__(self, groups: Sequence[SteppedGroup]) -> None:
        self.groups = list(groups)
        self.state: defaultdict[Tensor, Any] = defaultdict(dict)
        """State of each parameter, shared with the optimizers."""
        for optimizer in self._optimizers():
            self.state.update({p: _beside(p, known) for p, known in optimizer.state.items()})  # of one that has stepped
            optimizer.state = self.state

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [optimizer for group in self.groups for optimizer in group.optimizers]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers, in a fixed order."""
        return [group for optimizer in self._optimizers() for group in optimizer.param_groups]

    def step(self, step: int = 0) -> None:
        """Let the groups whose turn it is at a step of the run (from 0) take a step; at step 0 it is everyone's."""
        for group in self.groups:
            if step % group.every == 0:
                for optimizer in group.optimizers:
                    optimizer.step()


def _beside(p: Tensor, known: dict[str, Any]) -> dict[str, Any]:
    """What an optimizer remembers of a parameter, where that is now; counters of steps stay where they are."""
    return {
        name: value.to(p.device) if isinstance(value, Tensor) and value.shape else value
        for name, value in known.items()
    }


def build_optimizer(
    config: OptimizerConfig, net: nn.Module, module: nn.Module, precision: Precision = "fp32"
) -> RunOptimizer:
    """The optimizers of the trainable parameters of ``module``, an objective around the raw network ``net``.

    Args:
        config: The run's optimizer, for all parameters whose group has none of its own.
        net: The student's network, which names its boundary layers for Muon.
        module: The objective.
        precision: Arithmetic of Muon's orthogonalisation; momentum and weights stay in float32.
    """
    groups = _groups(module)
    apart = {id(p) for _, parameters in groups for p in parameters}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in apart]
    stepped = [SteppedGroup(REST, _build(config, net, rest, precision))] if rest else []
    for group, parameters in groups:
        if group.optimizer is None or isinstance(group.optimizer, OptimizerConfig):
            own = group.module.net if isinstance(group.module, Map) else group.module
            optimizers = _build(group.optimizer or config, own, parameters, precision)
        else:
            optimizers = [group.optimizer(parameters)]
        for entry in (entry for optimizer in optimizers for entry in optimizer.param_groups):
            entry["lr"] *= group.lr_scale
        stepped.append(SteppedGroup(group.name, optimizers, group.every))
    return RunOptimizer(stepped)


def _groups(module: nn.Module) -> list[tuple[ParamGroup, list[nn.Parameter]]]:
    """The parameter groups that an objective names, each with its trainable parameters.

    Raises:
        ValueError: If two groups share a name or a parameter.
    """
    objective = unwrapped(module)
    groups = objective.param_groups() if isinstance(objective, Objective) else []
    found = [(group, [p for p in group.module.parameters() if p.requires_grad]) for group in groups]
    names = [REST, *(group.name for group in groups)]
    if len(set(names)) < len(names):
        raise ValueError(f"parameter groups need names of their own, other than {REST!r}, got {names[1:]}")
    held = [id(p) for _, parameters in found for p in parameters]
    if len(set(held)) < len(held):
        raise ValueError(f"the parameter groups {', '.join(names[1:])} share a parameter; each belongs to one group")
    return [(group, parameters) for group, parameters in found if parameters]


def _build(
    config: OptimizerConfig, net: nn.Module, parameters: list[nn.Parameter], precision: Precision
) -> list[torch.optim.Optimizer]:
    if isinstance(config, AdamConfig):
        maker = torch.optim.AdamW if config.kind == "adamw" else torch.optim.RAdam
        return [maker(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)]
    hidden = {id(p) for p in hidden_matrices(net)}
    matrices = [p for p in parameters if id(p) in hidden]
    others = [p for p in parameters if id(p) not in hidden]
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        dtype = torch.bfloat16 if precision == "bf16" else None
        optimizers.append(
            Muon(matrices, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, dtype=dtype)
        )
    if others:
        # One call for all tensors; left to itself PyTorch loops over them on a CPU.
        optimizers.append(
            torch.optim.AdamW(others, lr=config.adam_lr, betas=ADAM_BETAS, weight_decay=0.0, foreach=True)
        )
    return optimizers


def set_rates(optimizer: RunOptimizer | torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to its peak times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("peak_lr", group["lr"]) * factor


def clip_groups(module: nn.Module, largest: float) -> dict[str, tuple[list[nn.Parameter], float]]:
    """The parameters that are clipped together, by the name of their group, and the largest norm of their gradient.

    Args:
        module: The objective, wrapped or not.
        largest: The run's largest norm, of the groups that have none of their own.
    """
    groups = _groups(module)
    apart = {id(p) for _, parameters in groups for p in parameters}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in apart]
    named = {group.name: (parameters, largest if group.clip is None else group.clip) for group, parameters in groups}
    return ({REST: (rest, largest)} if rest else {}) | named


def clip_gradients(parameters: list[nn.Parameter], largest: float) -> Tensor:
    """Shorten the gradient to the norm ``largest`` and return the norm it had; non-finite ones are left alone.

    The norm stays on the device, so that nothing waits for it.
    """
    norm = whole(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm.where(norm.isfinite(), 0.0))
    return norm
