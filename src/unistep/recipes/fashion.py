"""Recipes for Fashion-MNIST and, with ``--data``, for anyone's small pictures."""

from __future__ import annotations

from unistep.data import DataConfig
from unistep.generator import ModelConfig
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.distance import SquaredL2
from unistep.objectives.distillation import DistillationConfig
from unistep.objectives.easy import EasyConfig
from unistep.objectives.training import ConsistencyTrainingConfig
from unistep.timesteps import RatioCurriculum
from unistep.training.config import RunConfig
from unistep.training.ema import PowerEMA
from unistep.training.optim import AdamConfig, MuonConfig, Schedule

NETWORK = UNetConfig(widths=(48, 128), blocks=(1, 2), num_classes=10)
IMAGES = ImageModality(size=28, channels=1)
TEACHER = ModelConfig(kind="denoiser", network=NETWORK, modality=IMAGES, steps=18)
STUDENT = ModelConfig(kind="consistency", network=NETWORK, modality=IMAGES, boundary=0.0, steps=1)


def fashion_teacher() -> RunConfig:
    return RunConfig(
        recipe="fashion-teacher",
        data=DataConfig(),
        model=TEACHER,
        objective=DenoisingConfig(),
        emas=(PowerEMA(sigma_rel=0.1), PowerEMA(sigma_rel=0.2)),
        budget="90m",
    )
