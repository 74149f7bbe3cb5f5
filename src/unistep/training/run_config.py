"""The full configuration of a training run: what a recipe returns and what lies beside every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from unistep.data import DataConfig
from unistep.generation.model_config import ModelConfig
from unistep.objectives.base import ObjectiveConfig
from unistep.precision import WantedPrecision
from unistep.training.budget import parse_amount
from unistep.training.ema import EMAConfig, PowerEMA
from unistep.training.loop_options import LoopOptions
from unistep.training.lora import LoRAConfig
from unistep.training.optim import MuonConfig, OptimizerConfig, Schedule
from unistep.training.selection import SelectionConfig

Open = Literal["network", "batch_size", "init", "size", "curriculum", "optimizer", "finish_share"]
"""What a configuration can leave open: it is chosen from the data, the budget and a timing run."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, complete: with the data and the teacher it names, it can be run again."""

    recipe: str
    """Name of the recipe that this configuration came from."""
    data: DataConfig
    """Training data."""
    model: ModelConfig
    """The model to train; its signal shape and classes are filled in from the data."""
    objective: ObjectiveConfig
    """Training signal."""
    teacher: str | None = None
    """Model that the student starts from, and that distillation follows: a zoo name, a directory or a hub id. A
    teacher that was trained first, and lies in the run's own folder, is ``run:teacher/model``."""
    init: str | None = None
    """Model whose weights training starts from, in place of the teacher's or fresh ones: a zoo name, a directory or a
    hub id. A denoiser that is trained by a method's recipe starts from a base of its kind of signal where one ships;
    none for fresh weights."""
    lora: LoRAConfig = LoRAConfig()
    """Low-rank differences that are trained in place of all weights of the model that ``init`` names, and saved as a
    small file of their own: ``rank`` (0 for none, 8 is usual) and ``alpha``."""
    rehearsal: float | None = None
    """Share of each batch that is data of the model that ``init`` names, so that it is not forgotten: its own data
    where that is here, else samples of it; 0 for none. Without a number, a share where a one-step model goes on without
    a teacher and its old data has conditions, such as texts, that tell it from the new."""
    teacher_share: float = 0.6
    """Share of the budget that goes to training a teacher first, where the objective needs one and none is named."""
    finish_share: float = 0.0
    """Share of the budget, at its end, in which a one-step model is post-trained on a distribution distance, as by
    ``unistep train fd``; 0 for none. Runs of less than 500 items, and those in which it would be less than a minute,
    go without."""
    optimizer: OptimizerConfig = MuonConfig()
    """Optimizer and its rates."""
    schedule: Schedule = Schedule()
    """Learning rate along training."""
    emas: tuple[EMAConfig, ...] = field(default=(PowerEMA(sigma_rel=0.1),))
    """Averages of the weights; the first is the one that is sampled and shipped."""
    budget: str = "30m"
    """How long: seconds, minutes or hours (``90s``, ``30m``, ``2h``), which are a deadline that the number of steps
    adapts to, or items (``500k``, ``2M``)."""
    max_steps: int | None = None
    """Number of optimizer steps, in place of a budget; such a run is the same on every day."""
    batch_size: int = 64
    """Items per optimizer step, over all processes."""
    auto: tuple[Open, ...] = ()
    """What is chosen from the data, the budget and a timing run before training begins, in place of what stands here.
    A method's recipe leaves the network, the batch size, the first weights, the size of the signals, the number of
    stages of a curriculum and, between Muon and AdamW, the optimizer open; a value of your own decides it. A share for
    post-training that is open is that of the signal, where the teacher was fast enough for it to help."""
    accumulation: int = 1
    """Parts that each process's share of the batch is computed in, to save memory."""
    clip: float = 1.0
    """Largest norm of the gradient; a longer one is shortened."""
    precision: WantedPrecision = "auto"
    """Arithmetic of the network: ``auto`` is bf16 where the hardware is fast at it."""
    compile: bool = False
    """Whether to compile the network with ``torch.compile``."""
    auto_compile: bool = True
    """Whether to do so unasked where a run takes more than ten minutes and becomes faster for it."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share the work, under ``torchrun``."""
    threads: int | None = None
    """CPU threads of each process; PyTorch's choice without."""
    seed: int = 0
    """Seed of the weights, the data order and all noise."""
    checkpoint_every: str = "5m"
    """Time or optimizer steps (``500``) between checkpoints."""
    sample_every: str = "1m"
    """Time or optimizer steps between sample grids."""
    keep: int = 2
    """Number of checkpoints to keep."""
    selection: SelectionConfig = SelectionConfig()
    """Selection of the best weights by the samples' distance from the data, and early stopping: ``every`` (0 for
    none), ``features``, ``samples``, ``patience``."""
    start_report: int = 200
    """Samples by which a one-step model that went on with another (``init``) is compared with that one at the end: one
    step and four on the new data, one step on the old data before and after, where it is here; 0 for none."""
    max_bad_steps: int = 20
    """Consecutive steps with a non-finite loss or gradient after which the run stops."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        LoopOptions.of(self)
        parse_amount(self.budget, "budget", steps=False)
        if self.start_report != 0 and self.start_report < 10:
            raise ValueError(f"start_report must be 0 (none) or at least 10 samples, got {self.start_report}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps}")
        if self.rehearsal is not None and not 0 <= self.rehearsal < 1:
            raise ValueError(f"rehearsal is a share of each batch, from 0 (none) to below 1, got {self.rehearsal}")
        if not 0 < self.teacher_share < 1:
            raise ValueError(f"teacher_share must be between 0 and 1, got {self.teacher_share}")
        own_teacher = self.objective.starts_from_teacher and self.teacher is None
        left = 1 - self.teacher_share if own_teacher else 1.0
        if not 0 <= self.finish_share < left:
            why = ", what the teacher leaves" if own_teacher else ""
            raise ValueError(f"finish_share must be from 0 (none) to below {left:g}{why}, got {self.finish_share}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
