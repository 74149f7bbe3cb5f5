"""Reproductions of the shipped models of emoji from text."""

from __future__ import annotations

from dataclasses import replace

from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.data import DataConfig
from unistep.modalities.image import ImageModality
from unistep.nets.unet_config import UNetConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.ect import ECTConfig
from unistep.recipes import consistency_methods
from unistep.training.run_config import RunConfig

DATA = DataConfig(source="emoji", balance=1.0)
"""Half of the emoji are persons in six tones of skin; each motif is drawn equally often."""
IMAGES = ImageModality(size=64, channels=3)
NETWORK = UNetConfig(
    channels=3, patch=4, widths=(96, 192), blocks=(1, 2), attention=(1,), gated_skip=True, fine_width=32
)
"""That of `base-64` with layers that read texts, 8.2 million parameters; a quarter of the resolution inside."""
GUIDANCE = (1.0, 4.0)
"""Weights of guidance that the one-step model takes."""


def denoising() -> RunConfig:
    """A denoiser of emoji from texts: `emoji-teacher`, from which the one-step model starts.

    Data: 3,464 emoji of 64 pixels with their names (Debian's fonts-noto-color-emoji and unicode-data).
    Starts from: base-64.
    Hardware: one core of a CPU with bf16 units.
    Time: 45 minutes for 66,800 images. The shipped model had 139,000 before them in three runs, the first two without
    blocks at full resolution, all at less noise and without balance; its card lists them.
    Expected: the own text found among 20 in 0.80 of samples, 18 steps of DPM-Solver++ with a guidance of 2.5.
    """
    objective = DenoisingConfig(times=LogNormal(mean=0.3, std=1.5))
    method = replace(consistency_methods.denoising(), objective=objective, batch_size=32, budget="120m")
    return method.run("emoji/denoising", DATA, IMAGES, NETWORK, init="base-64")


def ect() -> RunConfig:
    """Easy consistency tuning along the ODE of the guided teacher: one step, with the guidance as an input.

    Data: 3,464 emoji of 64 pixels with their names (Debian's fonts-noto-color-emoji and unicode-data).
    Needs a teacher: yes; the shipped one by default.
    Hardware: one core of a CPU with bf16 units.
    Time: 54 minutes for 58,600 images.
    Expected: the own text found among 20 in 0.77 of one-step samples with a guidance of 2.5 (features emoji-text v1;
    chance is 0.05).
    """
    objective = ECTConfig(
        times=LogNormal(mean=0.5, std=2.0),
        curriculum=RatioCurriculum(q=2.0, stages=3, anchor=0.6),
        target="euler",
        teacher_reuse=4,
        guidance=2.5,
        guidance_range=GUIDANCE,
    )
    method = replace(consistency_methods.ect(), objective=objective, batch_size=32, budget="54m")
    return method.run("emoji/ect", DATA, IMAGES, NETWORK, teacher="emoji-teacher")
