"""A run with every choice made, what is built from it, and where and when it is resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unistep.data import Dataset
from unistep.objectives.base import Objective
from unistep.training.optim import RunOptimizer
from unistep.training.pace import Clock, Deadline
from unistep.training.parallel import World
from unistep.training.run_config import RunConfig
from unistep.training.step import TrainStep


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What is built from a resolved configuration."""

    objective: Objective
    """The objective, bare, on its device."""
    train_step: TrainStep
    """Computes gradients of the objective, wrapped for the processes."""
    optimizer: RunOptimizer
    """Its optimizer, which has taken no step."""
    identity: Mapping[str, str]
    """Hashes of the ``data`` and the ``teacher``, which must stay what they are when a run goes on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ResolvedRun:
    """A run with every choice made: its configuration is written as ``config.json``."""

    config: RunConfig
    """The configuration, with the network, codec, batch size and conditions filled in."""
    data: Dataset
    """Training data."""
    steps: int
    """Optimizer steps; with a deadline, as many as seem possible now."""
    seconds: float | None
    """Time for this stage; ``None`` where a number of steps is given."""
    speed: float
    """Items per second in training."""
    resumed: bool = False
    """Whether the speed is that of an earlier session."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """What was chosen, and why, for the plan."""
    warnings: tuple[str, ...] = ()
    """What does not go together."""
    parts: Parts
    """What was built on the way."""

    @property
    def noun(self) -> str:
        """What one item is called."""
        return self.data.modality.noun

    def deadline(self) -> Deadline | None:
        """What keeps the run within its time, where there is a limit."""
        if self.seconds is None:
            return None
        return Deadline(self.seconds, self.parts.train_step.options.batch_size / self.speed)


@dataclass(frozen=True, kw_only=True)
class Session:
    """Where and when a run is resolved: nothing here has an effect on the numbers."""

    out: Path = Path()
    """The run's folder, which its own teacher lies in."""
    world: World = World()
    """The processes."""
    clock: Clock = field(default_factory=Clock)
    """Seconds of this stage."""
    spent: float = 0.0
    """Seconds of the budget that an earlier stage took."""
    earlier: Mapping[str, Any] | None = None
    """Counters of the newest checkpoint, where the run goes on: its choices were made when it began."""
    say: Callable[[str], None] = field(default=lambda text: None)
    """Reports what takes long."""
