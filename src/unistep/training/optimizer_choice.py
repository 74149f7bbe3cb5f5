"""Muon or AdamW, by what a step of each costs here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unistep.objectives.base import Objective
from unistep.optimizers import MuonConfig, OptimizerConfig
from unistep.training.optim import RunOptimizer, build_optimizer
from unistep.training.step import TrainStep
from unistep.training.timing import StepTime, time_optimizer

MUON_STEPS = 2.0
"""Steps of AdamW that go as far as one of Muon, about (the log of experiments, "How far a step of Muon goes")."""


@dataclass(frozen=True, kw_only=True)
class ChosenOptimizer:
    """An optimizer that has taken no step."""

    config: OptimizerConfig
    """What it is."""
    optimizer: RunOptimizer
    """The optimizer."""
    cost: StepTime
    """What a step with it costs."""
    reason: str = ""
    """Why, for the plan; empty where Muon pays, as usual."""


def in_doubt(cost: StepTime) -> bool:
    """Whether a step with Muon costs so much that the steps that it saves may not pay for it."""
    return cost.seconds >= MUON_STEPS * cost.gradient


def choose_optimizer(
    muon: ChosenOptimizer, objective: Objective, train_step: TrainStep, *, timed: bool
) -> ChosenOptimizer:
    """AdamW in place of Muon, where that costs more time than it saves steps.

    Muon's cost goes with the cube of the widths and does not depend on the batch: it does not pay for wide networks in
    small batches.

    Args:
        muon: Muon, with the rate that AdamW would have as its ``adam_lr``.
        objective: What is trained, bare.
        train_step: Computes its gradients.
        timed: Whether the budget is a time. A number of steps or items goes further with Muon, whatever it costs.
    """
    if not isinstance(muon.config, MuonConfig) or not in_doubt(muon.cost):
        return muon
    plain = muon.config.adam
    other = build_optimizer(plain, objective.student.net, objective, train_step.precision)
    cost = replace(muon.cost, optimizer=time_optimizer(train_step, other))
    faster = muon.cost.seconds / cost.seconds
    if faster < MUON_STEPS:
        return muon
    share = f"{muon.cost.optimizer / muon.cost.seconds:.0%} of a step at batch {cost.batch_size}"
    if not timed:
        hint = f"steps with --optimizer adamw are {faster:.1f} times as fast, and it wants more of them"
        return replace(muon, reason=f"Muon, as the budget is no time; it takes {share}: {hint}")
    reason = f"AdamW at {plain.lr:g}; Muon would take {share}, {faster:.1f} times as long (--optimizer muon for Muon)"
    return ChosenOptimizer(config=plain, optimizer=other, cost=cost, reason=reason)
