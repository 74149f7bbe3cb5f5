"""Recipes for Fashion-MNIST and, with ``--data``, for anyone's small pictures."""

from __future__ import annotations

from typing import Any

from unistep.core.timesteps import LogNormal, RatioCurriculum, SqrtCurriculum
from unistep.data import DataConfig
from unistep.generation.model_config import ModelConfig
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig
from unistep.objectives.cd import CDConfig
from unistep.objectives.ct import CTConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.distance import PseudoHuber
from unistep.objectives.ect import ECTConfig
from unistep.training.ema import PowerEMA
from unistep.training.optim import AdamConfig, MuonConfig, Schedule
from unistep.training.run_config import RunConfig

NETWORK = UNetConfig(widths=(48, 128), blocks=(1, 2), num_classes=10)
"""2.8 million parameters; half resolution inside."""
IMAGES = ImageModality(size=28, channels=1)
TEACHER = ModelConfig(kind="denoiser", network=NETWORK, modality=IMAGES, steps=18)
STUDENT = ModelConfig(kind="consistency", network=NETWORK, modality=IMAGES, boundary=0.0, steps=1)
HIGH_NOISE = LogNormal(mean=0.0, std=2.0)
"""More noise than the paper's (-1.1, 2) for tuning: a sample in one step starts at the largest noise."""
TUNING: dict[str, Any] = {
    "optimizer": MuonConfig(lr=5e-4, adam_lr=2e-4),
    "schedule": Schedule(warmup_steps=50, decay=0.5),
    "emas": (PowerEMA(sigma_rel=0.1),),
    "budget": "30m",
}
"""How a student that starts from trained weights is optimised."""


def fashion_teacher() -> RunConfig:
    """A class-conditional denoiser: the teacher of the others, and a good many-step model by itself.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH``.
    Needs a teacher: no.
    Hardware: one or two cores of a CPU, then an NVIDIA H200 (`--batch-size 1024`).
    Time: 193 processor minutes without bf16 units and 40 with them for 1,328,000 images, then 79 seconds of the H200
    for 2,499,584.
    Expected: Fréchet distance 0.75 after the CPU and 0.42 after the H200, within 10 %; 0.19 with a guidance of 1.2
    (features `fashion` v1, 10,000 samples, 18 Heun steps).
    Paper: Karras et al. 2022 (arXiv 2206.00364); `objectives/denoising.py`. Muon in place of Adam.
    """
    return RunConfig(
        recipe="fashion-teacher",
        data=DataConfig(),
        model=TEACHER,
        objective=DenoisingConfig(),
        emas=(PowerEMA(sigma_rel=0.05), PowerEMA(sigma_rel=0.1)),
        budget="90m",
    )


def fashion_ect() -> RunConfig:
    """Easy Consistency Tuning along the guided teacher's ODE: a one-step model by tightening a gap of noise levels.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH`` (a teacher is trained first then).
    Needs a teacher: yes; the shipped one by default.
    Hardware: an NVIDIA H200 (`--batch-size 512 --budget 1500k`), or one core of a CPU with AMX; bfloat16.
    Time: three minutes of the H200, beside another run. The shipped model is the average of that and of one that went
    on (its card tells).
    Expected: Fréchet distance 0.59 in one step and 0.41 in two, within 10 % (features `fashion` v1, 10,000 samples);
    1.1 and 0.7 after ten minutes of one core (2,000 samples).
    Paper: Geng et al. 2024 (arXiv 2406.14548), algorithm 1; `objectives/ect.py`.
    """
    return RunConfig(
        recipe="fashion-ect",
        data=DataConfig(),
        model=STUDENT,
        objective=ECTConfig(
            times=HIGH_NOISE, curriculum=RatioCurriculum(q=4.0, stages=3), target="euler", guidance=1.2
        ),
        teacher="fashion-teacher",
        # At a constant rate the last and narrowest gap undoes what the others taught: what is left of its gradient is
        # mostly noise.
        **{**TUNING, "schedule": Schedule(warmup_steps=50, decay=1.0)},
    )


def fashion_cd() -> RunConfig:
    """Consistency distillation: a one-step student of the teacher's ODE, with Heun steps between 18 noise levels.

    RAdam as in the paper, as Muon without an average diverges here, and a target averaged over a few steps, without
    which two steps soon get worse.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH`` (a teacher is trained first then).
    Needs a teacher: yes; the shipped one by default.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 2.4 in one step and 2.7 in two, within 20 %, five minutes after a start from the
    shipped teacher with a guidance of 1.2 in the target (features `fashion` v1, 2,000 samples,
    `benchmarks/methods.py`).
    Paper: Song et al. 2023 (arXiv 2303.01469), algorithm 2; `objectives/cd.py`.
    """
    return RunConfig(
        recipe="fashion-cd",
        data=DataConfig(),
        model=STUDENT,
        objective=CDConfig(distance=PseudoHuber(c=0.0), target_ema=0.8),
        teacher="fashion-teacher",
        **{**TUNING, "optimizer": AdamConfig(kind="radam", lr=4e-4)},
    )


def fashion_ct() -> RunConfig:
    """Consistency training: a one-step model from data alone, with the first paper's schedules, shorter.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH``.
    Needs a teacher: no.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 4.2 in one step and 2.9 in two, within 20 %, five minutes after a start from the
    weights of the shipped teacher; 29 and 27 after as long from fresh weights (features `fashion` v1, 2,000
    samples, `benchmarks/methods.py`).
    Paper: Song et al. 2023 (arXiv 2303.01469), algorithm 3 and appendix C; `objectives/ct.py`. 2 to 20 levels
    rather than 150, and a target averaged by 0.5 rather than 0.9 at first: what is known at the data's end has few
    steps in which to travel to the noise.
    """
    return RunConfig(
        recipe="fashion-ct",
        data=DataConfig(),
        model=ModelConfig(kind="consistency", network=NETWORK, modality=IMAGES, boundary=0.002, steps=1),
        objective=CTConfig(curriculum=SqrtCurriculum(end=20, target_ema=0.5)),
        optimizer=AdamConfig(kind="radam", lr=4e-4),
        schedule=Schedule(warmup_steps=0, decay=0.0),
        emas=(PowerEMA(sigma_rel=0.1),),
        budget="60m",
    )
