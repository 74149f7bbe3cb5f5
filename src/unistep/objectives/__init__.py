"""Training signals, one file each; :mod:`unistep.registry` lists the names by which a configuration finds them."""

from unistep.objectives.cd import CDConfig
from unistep.objectives.ct import CTConfig
from unistep.objectives.ctm import CTMConfig, CTMTrainingConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.drifting import DriftingConfig
from unistep.objectives.ect import ECTConfig
from unistep.objectives.fd import FDConfig
from unistep.objectives.ict import ICTConfig
from unistep.objectives.imf import IMFConfig
from unistep.objectives.imm import IMMConfig
from unistep.objectives.meanflow import MeanFlowConfig, MeanFlowDistillationConfig
from unistep.objectives.pcm import PCMConfig
from unistep.objectives.scm import SCMConfig
from unistep.objectives.shortcut import ShortcutConfig
from unistep.objectives.tcm import TCMConfig

__all__ = [
    "CDConfig",
    "CTConfig",
    "CTMConfig",
    "CTMTrainingConfig",
    "DenoisingConfig",
    "DriftingConfig",
    "ECTConfig",
    "FDConfig",
    "ICTConfig",
    "IMFConfig",
    "IMMConfig",
    "MeanFlowConfig",
    "MeanFlowDistillationConfig",
    "PCMConfig",
    "SCMConfig",
    "ShortcutConfig",
    "TCMConfig",
]
