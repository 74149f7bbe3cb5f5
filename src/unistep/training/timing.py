"""A short timing run: what a step of training costs here, its gradient and its optimizer apart."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch

from unistep.training.optim import RunOptimizer, set_rates
from unistep.training.step import TrainStep

TIMING_SECONDS = 4.0
"""How long the timing run goes on, after two steps of warm-up."""


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """What a step costs."""

    batch_size: int
    """Items of the step."""
    gradient: float
    """Seconds of the forward and the backward pass."""
    optimizer: float = 0.0
    """Seconds of the optimizer."""

    @property
    def seconds(self) -> float:
        """Seconds of the whole step."""
        return self.gradient + self.optimizer

    @property
    def items_per_second(self) -> float:
        """Training speed."""
        return self.batch_size / self.seconds

    def at(self, batch_size: int) -> StepTime:
        """What a step of another number of items costs: its gradient in proportion to it, its optimizer the same."""
        return replace(self, batch_size=batch_size, gradient=self.gradient * batch_size / self.batch_size)


def time_steps(
    train_step: TrainStep, optimizer: RunOptimizer, longest: float | None = None, warm: bool = False
) -> StepTime:
    """The mean cost of a step over all processes, from steps at a rate of zero, which leave everything as new.

    Args:
        train_step: Computes gradients.
        optimizer: One that has taken no step.
        longest: Seconds that it may take, in place of :data:`TIMING_SECONDS`; where the first step takes longer, that
            step is the measurement.
        warm: Whether the first step, which allocates, never is, so that one more is taken.
    """
    set_rates(optimizer, 0.0)

    def timed() -> list[float]:
        begin = time.perf_counter()
        finite = math.isfinite(train_step.gradient(0, 0.0).norm)
        between = _now(train_step)
        if finite:
            optimizer.step()
        return train_step.world.mean([between - begin, _now(train_step) - between])

    limit = TIMING_SECONDS if longest is None else min(longest, TIMING_SECONDS)
    spent, count = timed(), 1
    if longest is None or sum(spent) < limit:
        timed()  # the second step still allocates
        spent, count = [0.0, 0.0], 0
    elif warm:
        spent, count = [0.0, 0.0], 0
    while sum(spent) < limit and count < 50:
        spent = [before + now for before, now in zip(spent, timed(), strict=True)]
        count += 1
    _as_new(train_step, optimizer)
    return StepTime(batch_size=train_step.options.batch_size, gradient=spent[0] / count, optimizer=spent[1] / count)


def time_optimizer(train_step: TrainStep, optimizer: RunOptimizer) -> float:
    """Seconds of a step of an optimizer, over all processes, at a rate of zero.

    Args:
        train_step: Computes the gradient that it steps with.
        optimizer: One that has taken no step.
    """
    set_rates(optimizer, 0.0)
    train_step.gradient(0, 0.0)
    optimizer.step()  # which allocates
    begin = _now(train_step)
    optimizer.step()
    seconds = train_step.world.mean([_now(train_step) - begin])[0]
    _as_new(train_step, optimizer)
    return seconds


def _now(train_step: TrainStep) -> float:
    """The time at which the device has done all that it was given."""
    if train_step.world.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _as_new(train_step: TrainStep, optimizer: RunOptimizer) -> None:
    optimizer.state.clear()
    set_rates(optimizer, 1.0)
    for p in train_step.trainable:
        p.grad = None
