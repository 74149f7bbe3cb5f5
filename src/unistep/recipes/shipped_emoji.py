"""Reproductions of the shipped models of emoji from text."""

from __future__ import annotations

from dataclasses import replace

from unistep.data import DataConfig
from unistep.modalities.image import ImageModality
from unistep.nets.unet_config import UNetConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.recipes import consistency_methods, post_training
from unistep.training.run_config import RunConfig

DATA = DataConfig(source="emoji")
IMAGES = ImageModality(size=64, channels=3)
NETWORK = UNetConfig(channels=3, patch=4, widths=(96, 192), blocks=(1, 2), attention=(1,), gated_skip=True)
"""7.6 million parameters with those that read texts; a quarter of the resolution inside."""
GUIDANCE = (1.0, 4.0)
"""Weights of guidance that the one-step model takes."""


def denoising() -> RunConfig:
    """A denoiser of emoji from texts: the shipped `emoji-teacher`, from which the one-step model starts.

    Data: 3,464 emoji of 64 pixels with their names (Debian's fonts-noto-color-emoji and unicode-data).
    Starts from: base-64.
    """
    objective = DenoisingConfig(label_dropout=0.15)
    method = replace(consistency_methods.denoising(), objective=objective, batch_size=32, budget="62m")
    return method.run("emoji/denoising", DATA, IMAGES, NETWORK, init="base-64")


def ect() -> RunConfig:
    """Easy consistency tuning along the ODE of the guided teacher: one step, with the guidance as an input.

    Data: 3,464 emoji of 64 pixels with their names.
    Needs a teacher: yes; the shipped one by default.
    """
    method = consistency_methods.ect()
    objective = replace(method.objective, guidance=2.5, guidance_range=GUIDANCE)  # type: ignore[call-arg]
    method = replace(method, objective=objective, batch_size=32, budget="45m")
    return method.run("emoji/ect", DATA, IMAGES, NETWORK, teacher="emoji-teacher")


def fd() -> RunConfig:
    """FD loss from the student of `emoji/ect`.

    Data: 3,464 emoji of 64 pixels with their names.
    Needs a teacher: no, but a trained model to go on with.
    """
    method = post_training.fd()
    return method.run("emoji/fd", DATA, IMAGES, NETWORK, init="emoji")
