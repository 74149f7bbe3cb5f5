"""What the training loop needs beside the objective, the data and the optimizer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from unistep.precision import WantedPrecision
from unistep.spelling import nearest
from unistep.training.budget import parse_amount
from unistep.training.ema import EMAConfig, PowerEMA
from unistep.training.optim import Schedule
from unistep.training.selection import SelectionConfig


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Options of the loop, a part of those of :class:`~unistep.training.run_config.RunConfig`."""

    batch_size: int = 64
    """Items per optimizer step, over all processes."""
    accumulation: int = 1
    """Parts that each process's share of the batch is computed in, to save memory."""
    clip: float = 1.0
    """Largest norm of the gradient; a longer one is shortened."""
    precision: WantedPrecision = "auto"
    """Arithmetic of the network."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share the work."""
    seed: int = 0
    """Seed of the data order and all noise."""
    schedule: Schedule = Schedule()
    """Learning rate along training."""
    emas: tuple[EMAConfig, ...] = (PowerEMA(sigma_rel=0.1),)
    """Averages of the weights; samples come from the first."""
    checkpoint_every: str = "5m"
    """Time or optimizer steps between checkpoints."""
    sample_every: str = "1m"
    """Time or optimizer steps between sample grids; a time grows where drawing one takes more than a tenth of it."""
    keep: int = 2
    """Number of checkpoints that stay."""
    max_bad_steps: int = 20
    """Consecutive steps with a non-finite loss or gradient after which training stops."""
    selection: SelectionConfig = SelectionConfig()
    """How the best weights are selected."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        for name in ("batch_size", "accumulation", "keep", "max_bad_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be from 0 to 2**63 - 1, got {self.seed}")
        if not self.emas:
            raise ValueError("a run needs at least one average of the weights: its samples come from the first")
        if len({ema.name for ema in self.emas}) < len(self.emas):
            raise ValueError(f"two averages are the same ({', '.join(ema.name for ema in self.emas)}); leave one out")
        for name, choices in (("precision", get_args(WantedPrecision)), ("parallel", ("ddp", "fsdp"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; {nearest(getattr(self, name), choices)}")
        for name in ("checkpoint_every", "sample_every"):
            parse_amount(getattr(self, name), name)

    @classmethod
    def of(cls, config: Any) -> LoopOptions:
        """Those among the fields of a run's configuration."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})
