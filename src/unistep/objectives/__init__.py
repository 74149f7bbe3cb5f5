"""Training signals, one file each; this is the list of those that a configuration can name."""

from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.distillation import DistillationConfig
from unistep.objectives.easy import EasyConfig
from unistep.objectives.training import ConsistencyTrainingConfig

AnyObjectiveConfig = DenoisingConfig | ConsistencyTrainingConfig | DistillationConfig | EasyConfig
"""The training signals that a configuration can name."""

__all__ = ["AnyObjectiveConfig", "ConsistencyTrainingConfig", "DenoisingConfig", "DistillationConfig", "EasyConfig"]
