"""Reproductions of the shipped models of Fashion-MNIST."""

from __future__ import annotations

from dataclasses import replace

from unistep.core.timesteps import RatioCurriculum
from unistep.data import DataConfig
from unistep.modalities.image import ImageModality
from unistep.nets.unet_config import UNetConfig
from unistep.recipes import consistency_methods
from unistep.training.run_config import RunConfig

DATA = DataConfig(source="fashion-mnist")
IMAGES = ImageModality(size=28, channels=1)
NETWORK = UNetConfig(widths=(48, 128), blocks=(1, 2), num_classes=10)
"""2.8 million parameters; half resolution inside."""


def denoising() -> RunConfig:
    """A class-conditional denoiser: the shipped `fashion-teacher`, from which the other methods start.

    Data: Fashion-MNIST, 60,000 images.
    Hardware: one or two cores of a CPU, then an NVIDIA H200 (`--batch-size 1024`).
    Time: 193 processor minutes without bf16 units and 40 with them for 1,328,000 images, then 79 seconds of the H200
    for 2,499,584.
    Expected: Fréchet distance 0.75 after the CPU and 0.42 after the H200, within 10 %; 0.19 with a guidance of 1.2
    (features `fashion` v1, 10,000 samples, 18 Heun steps).
    """
    return consistency_methods.denoising().run("fashion/denoising", DATA, IMAGES, NETWORK)


def ect() -> RunConfig:
    """Easy consistency tuning along the ODE of the guided teacher: the shipped one-step model `fashion`.

    Data: Fashion-MNIST, 60,000 images.
    Needs a teacher: yes; the shipped one by default.
    Hardware: an NVIDIA H200 (`--batch-size 512 --budget 1500k`), or one core of a CPU with AMX; bfloat16.
    Time: three minutes of the H200, beside another run. The shipped model is an average of that run and of one that
    continued it; see its card.
    Expected: Fréchet distance 0.59 in one step and 0.41 in two, within 10 % (features `fashion` v1, 10,000 samples);
    1.1 and 0.7 after ten minutes of one core (2,000 samples).
    """
    method = consistency_methods.ect()
    as_trained = replace(method, objective=replace(method.objective, curriculum=RatioCurriculum(q=4.0, stages=3)))
    return as_trained.run("fashion/ect", DATA, IMAGES, NETWORK, teacher="fashion-teacher")
