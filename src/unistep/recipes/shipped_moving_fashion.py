"""Reproductions of the shipped model of clips, `moving-fashion`: a video at once, in one step."""

from __future__ import annotations

from dataclasses import replace

from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.data import data_config
from unistep.modalities.video import VideoModality
from unistep.nets.unet_config import UNetConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.ect import ECTConfig
from unistep.recipes import consistency_methods
from unistep.training.run_config import RunConfig

DATA = data_config("moving-fashion", modality="video")
CLIPS = VideoModality(size=32, channels=1, frames=16, fps=8)
NETWORK = UNetConfig(
    channels=1,
    dims=3,
    patch=2,
    widths=(32, 64),
    blocks=(1, 2),
    head_dim=32,
    gated_skip=True,
    fine_width=16,
    fine_blocks=1,
)
"""Convolutions over time and space, half of the resolution inside in both, and one block at full resolution, without
which the ground stays grainy; 2.1 million parameters."""


def denoising() -> RunConfig:
    """A denoiser of clips of two items of clothing that move, bounce and pass in front of each other.

    Frames of a clip are much alike, so that noise hides less of a clip than of a picture: there is more of it in
    training.

    Data: 20,000 clips of 16 frames of 32 pixels, drawn from Fashion-MNIST (MIT), or your own with ``--data``.
    Hardware: one core of a CPU with bf16 units.
    Time: 30 minutes.
    Expected: see the card of the shipped model.
    Paper: Karras et al. 2022 (arXiv 2206.00364); `objectives/denoising.py`. Muon in place of Adam.
    """
    objective = DenoisingConfig(times=LogNormal(mean=0.3, std=1.6))
    method = replace(consistency_methods.denoising(), objective=objective, batch_size=32, budget="30m", auto=())
    return method.run("moving-fashion/denoising", DATA, CLIPS, NETWORK)


def ect() -> RunConfig:
    """Easy consistency tuning of the teacher of clips.

    Data: 20,000 clips of 16 frames of 32 pixels, drawn from Fashion-MNIST (MIT), or your own with ``--data``.
    Needs a teacher: yes; one is trained first, or name it with ``--teacher``.
    Hardware: one core of a CPU with bf16 units.
    Time: 30 minutes.
    Expected: see the card of the shipped model.
    Paper: Geng et al. 2024 (arXiv 2406.14548), algorithm 1; `objectives/ect.py`.
    """
    objective = ECTConfig(
        times=LogNormal(mean=0.5, std=2.0), curriculum=RatioCurriculum(q=4.0, stages=2, anchor=0.6), target="euler"
    )
    method = replace(consistency_methods.ect(), objective=objective, batch_size=32, budget="30m", auto=())
    return method.run("moving-fashion/ect", DATA, CLIPS, NETWORK)
