"""Training signals, one file each; this is the list of those that a configuration can name."""

from unistep.objectives.continuous import ContinuousConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.distillation import DistillationConfig
from unistep.objectives.drifting import DriftingConfig
from unistep.objectives.easy import EasyConfig
from unistep.objectives.improved import ImprovedConfig
from unistep.objectives.improved_meanflow import ImprovedMeanFlowConfig
from unistep.objectives.meanflow import MeanFlowConfig, MeanFlowDistillationConfig
from unistep.objectives.moment import MomentConfig
from unistep.objectives.phased import PhasedConfig
from unistep.objectives.shortcut import ShortcutConfig
from unistep.objectives.training import ConsistencyTrainingConfig
from unistep.objectives.trajectory import TrajectoryDistillationConfig, TrajectoryTrainingConfig
from unistep.objectives.truncated import TruncatedConfig

AnyObjectiveConfig = (
    DenoisingConfig
    | ConsistencyTrainingConfig
    | DistillationConfig
    | EasyConfig
    | ImprovedConfig
    | ContinuousConfig
    | TruncatedConfig
    | PhasedConfig
    | TrajectoryDistillationConfig
    | TrajectoryTrainingConfig
    | MeanFlowConfig
    | MeanFlowDistillationConfig
    | ImprovedMeanFlowConfig
    | ShortcutConfig
    | MomentConfig
    | DriftingConfig
)
"""The training signals that a configuration can name."""

__all__ = [
    "AnyObjectiveConfig",
    "ConsistencyTrainingConfig",
    "ContinuousConfig",
    "DenoisingConfig",
    "DistillationConfig",
    "DriftingConfig",
    "EasyConfig",
    "ImprovedConfig",
    "ImprovedMeanFlowConfig",
    "MeanFlowConfig",
    "MeanFlowDistillationConfig",
    "MomentConfig",
    "PhasedConfig",
    "ShortcutConfig",
    "TrajectoryDistillationConfig",
    "TrajectoryTrainingConfig",
    "TruncatedConfig",
]
