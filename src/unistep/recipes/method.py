"""A method: everything of a training run except data, signal and network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from unistep.codecs.base import CodecConfig
from unistep.core.path import VarianceExploding
from unistep.data import DataConfig
from unistep.generation.history import Context
from unistep.generation.model_config import AnyPath, Kind, ModelConfig
from unistep.modalities.base import Modality
from unistep.nets.config import NetworkConfig
from unistep.objectives.base import ObjectiveConfig
from unistep.training.ema import EMAConfig, PowerEMA
from unistep.training.optim import MuonConfig, OptimizerConfig, Schedule
from unistep.training.run_config import Open, RunConfig
from unistep.training.selection import SelectionConfig

TUNING_OPTIMIZER = MuonConfig(lr=5e-4, adam_lr=2e-4)
"""Optimizer of a student that starts from trained weights."""
TUNING_SCHEDULE = Schedule(warmup_steps=50, decay=0.5)
"""Learning rate of a student that starts from trained weights."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method's recipe returns: how a model is trained, whatever the data."""

    kind: Kind
    """Which map is trained."""
    objective: ObjectiveConfig
    """Training signal."""
    path: AnyPath = VarianceExploding()
    """Path from data to noise."""
    boundary: float = 0.0
    """Time at which a one-step model's jump ends; 0 is the data itself."""
    steps: int = 1
    """Default number of sampling steps."""
    optimizer: OptimizerConfig = MuonConfig()
    """Optimizer and its rates."""
    schedule: Schedule = Schedule()
    """Learning rate along training."""
    emas: tuple[EMAConfig, ...] = (PowerEMA(sigma_rel=0.1),)
    """Averages of the weights; the first is the one that is sampled and shipped."""
    budget: str = "30m"
    """Time or number of examples."""
    teacher_share: float = 0.6
    """Share of the budget that goes to a teacher, where one is trained first."""
    finish_share: float = 0.0
    """Share of the budget, at its end, that goes to post-training on a distribution distance."""
    batch_size: int = 64
    """Examples per optimizer step."""
    selection: SelectionConfig = SelectionConfig()
    """Selection of the best weights; none by default."""
    auto: tuple[Open, ...] = ("network", "batch_size", "init", "size", "curriculum", "optimizer", "finish_share")
    """What is chosen from the data, the budget and a timing run."""

    def run(
        self,
        recipe: str,
        data: DataConfig,
        modality: Modality,
        network: NetworkConfig,
        *,
        codec: CodecConfig | None = None,
        context: Context | None = None,
        **changes: Any,
    ) -> RunConfig:
        """The run that trains a network by this method.

        Args:
            recipe: Name that the run has.
            data: Training data.
            modality: The kind of signal; its shape is filled in from the data.
            network: The network; channels and conditions are filled in from the data.
            codec: What the network sees of a signal; the modality's default by default.
            context: How a model for streaming generation sees the previous chunk.
            **changes: Other fields of :class:`~unistep.training.run_config.RunConfig`.
        """
        model = ModelConfig(
            kind=self.kind,
            network=network.with_second_time(self.objective.two_times),
            path=self.path,
            boundary=self.boundary,
            context=context,
            steps=self.steps,
            modality=modality,
            codec=modality.default_codec() if codec is None else codec,
        )
        fields: dict[str, Any] = {
            "objective": self.objective,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "emas": self.emas,
            "budget": self.budget,
            "teacher_share": self.teacher_share,
            "finish_share": self.finish_share,
            "batch_size": self.batch_size,
            "selection": self.selection,
        }
        return RunConfig(recipe=recipe, data=data, model=model, **{**fields, **changes})

    def tuned(self, overrides: Mapping[str, Any]) -> Method:
        """The method with the overrides that suit a kind of signal.

        Args:
            overrides: Values of fields by name; a mapping changes single fields of the part that has the name, such as
                ``{"objective": {"weighting": "one"}, "batch_size": 32}``.

        Raises:
            ValueError: If there is no such field, or a value is out of range.
        """
        return _replaced(self, overrides)


def _replaced(value: Any, overrides: Mapping[str, Any]) -> Any:
    """A dataclass with nested overrides applied."""
    changes = {}
    for name, given in overrides.items():
        if name not in vars(value):
            raise ValueError(
                f"{type(value).__name__} has no field {name!r} to override; it has {', '.join(vars(value))}"
            )
        nested = isinstance(given, Mapping) and is_dataclass(vars(value)[name])
        changes[name] = _replaced(vars(value)[name], given) if nested else given
    return replace(value, **changes)
