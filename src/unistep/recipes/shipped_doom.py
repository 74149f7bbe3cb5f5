"""The world `doom`: the next frame of a game seen from within, given the last ones and what a player does."""

from __future__ import annotations

from dataclasses import replace

from unistep.data import data_config
from unistep.data.sources.doom_game import RATE, SIZE
from unistep.modalities.video import VideoModality
from unistep.recipes.shipped_racing import CODEC, CONTEXT, HISTORY, NETWORK, ROLLED_OUT, ROLLOUT, TEACHING, TUNING
from unistep.training.run_config import RunConfig

DATA = data_config("doom", modality="video", frames=HISTORY + 1 + ROLLOUT)
CLIPS = VideoModality(size=SIZE, channels=3, frames=HISTORY + 1 + ROLLOUT, fps=RATE)


def denoising() -> RunConfig:
    """A denoiser of the next frame of walks through rooms, from which the one-step model starts.

    As `racing/denoising`, on 60 walks of 28.6 seconds through the rooms of one level (`--data doom:take_cover` takes
    another one): the whole picture moves with every turn, by five pixels a frame.

    Data: walks in ViZDoom (MIT) with the pictures of Freedoom (BSD-3-Clause), 64 pixels at 17.5 frames per second.
    Hardware: one core of a CPU with bf16 units.
    Time: 60 minutes: `unistep train doom/denoising --out runs/doom-teacher`.
    Expected: not measured.
    Paper: Karras et al. 2022 (arXiv 2206.00364); `objectives/denoising.py`. Muon in place of Adam. The noised context
    as in Valevski et al. 2024 (arXiv 2408.14837), the frames as channels as in Alonso et al. 2024 (arXiv 2405.12399).
    """
    run = replace(TEACHING, budget="60m").run("doom/denoising", DATA, CLIPS, NETWORK, codec=CODEC, context=CONTEXT)
    return replace(run, model=replace(run.model, solver="euler"))


def ect() -> RunConfig:
    """Easy consistency tuning of the teacher, on frames that the student itself has rolled out: one call a frame.

    As `racing/ect`: the widest gap, and up to four of the last frames are the student's own.

    Data: walks in ViZDoom (MIT) with the pictures of Freedoom (BSD-3-Clause), 64 pixels at 17.5 frames per second.
    Needs a teacher: yes; one is trained first, or name it with ``--teacher``.
    Hardware: one core of a CPU with bf16 units.
    Time: 60 minutes: `unistep train doom/ect --teacher runs/doom-teacher --out runs/doom`.
    Expected: not measured.
    Paper: Geng et al. 2024 (arXiv 2406.14548), algorithm 1; `objectives/ect.py`. Rolled-out frames as in Ross et al.
    2011 (arXiv 1011.0686) and Huang et al. 2025 (arXiv 2506.08009).
    """
    return replace(TUNING, budget="60m").run("doom/ect", DATA, CLIPS, NETWORK, codec=CODEC, context=ROLLED_OUT)
