"""Reproductions of the shipped world `racing`: the next frame of a game, given the last ones and what a player does."""

from __future__ import annotations

from dataclasses import replace

from unistep.codecs.next_frame import NextFrameConfig
from unistep.core.timesteps import LogNormal
from unistep.data import data_config
from unistep.generation.history import Context
from unistep.modalities.video import VideoModality
from unistep.nets.unet_config import UNetConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.fd import FDConfig
from unistep.recipes import consistency_methods, post_training
from unistep.recipes.shipped_notes import TUNED_SOUNDS
from unistep.training.run_config import RunConfig

HISTORY, ROLLOUT = 4, 4
"""Frames that the network sees, and most frames before the next one that are its own in training."""
DATA = data_config("racing", modality="video", frames=HISTORY + 1 + ROLLOUT)
CLIPS = VideoModality(size=64, channels=3, frames=HISTORY + 1 + ROLLOUT, fps=25)
CODEC = NextFrameConfig(history=HISTORY)
CONTEXT = Context(frames=HISTORY, noise=0.6, level=0.05, missing=0.03, changing=())
NETWORK = UNetConfig(channels=3, patch=2, widths=(48, 96, 128), blocks=(1, 2, 2), head_dim=32, gated_skip=True)
"""4.1 million parameters, half of the resolution inside; attention over 8 x 8 positions."""

TEACHING = replace(
    consistency_methods.denoising(),
    objective=DenoisingConfig(times=LogNormal(mean=0.5, std=1.8), label_dropout=0.0),
    steps=4,
    batch_size=32,
    budget="30m",
    auto=(),
)
"""Denoising of next frames: much of them is learned at high noise."""
TUNING = replace(TUNED_SOUNDS, batch_size=32, budget="40m", auto=())
"""Tuning of it. The last frames and the action almost determine the next one, as the condition does a note: so the
widest gap."""
ROLLED_OUT = replace(CONTEXT, rollout=ROLLOUT)
"""The context with up to as many frames of the student's own."""


def denoising() -> RunConfig:
    """A denoiser of the next frame: `racing-teacher`, from which the one-step model starts.

    The last frames get context noise of a random level, so that errors of the model's own frames look like what it has
    been trained on. They and the action almost determine the next one, so much is learned at high noise.

    Data: drives in Gymnasium's CarRacing-v3 (MIT), or recordings of your own play with ``--data folder:PATH``.
    Hardware: one core of a CPU with bf16 units.
    Time: 30 minutes.
    Expected: see the card of the shipped model.
    Paper: Karras et al. 2022 (arXiv 2206.00364); `objectives/denoising.py`. Muon in place of Adam. The noised context
    as in Valevski et al. 2024 (arXiv 2408.14837), the frames as channels as in Alonso et al. 2024 (arXiv 2405.12399).
    """
    run = TEACHING.run("racing/denoising", DATA, CLIPS, NETWORK, codec=CODEC, context=CONTEXT)
    # In so few steps a solver of second order is far off (8 dB in 3 steps of Heun, 37 in 4 of Euler).
    return replace(run, model=replace(run.model, solver="euler"))


def ect() -> RunConfig:
    """Easy consistency tuning of the teacher, on frames that the student itself has rolled out: one call a frame.

    Up to four of the last frames are the student's own, so that it learns to go on from what it makes and long play
    does not drift. Noise levels above 2 learn from an eighth of them and those below from the data, at a third of the
    usual rates: with narrower gaps and even weights grain was handed on and grew.

    Data: drives in Gymnasium's CarRacing-v3 (MIT), or recordings of your own play with ``--data folder:PATH``.
    Needs a teacher: yes; one is trained first, or name it with ``--teacher``.
    Hardware: one core of a CPU with bf16 units.
    Time: 40 minutes.
    Expected: see the card of the shipped model.
    Paper: Geng et al. 2024 (arXiv 2406.14548), algorithm 1; `objectives/ect.py`. Rolled-out frames as in Ross et al.
    2011 (arXiv 1011.0686) and Huang et al. 2025 (arXiv 2506.08009).
    """
    return TUNING.run("racing/ect", DATA, CLIPS, NETWORK, codec=CODEC, context=ROLLED_OUT)


def fd() -> RunConfig:
    """FD loss in the midst of long play: bends that come into sight, kerbs, and what else is lost after a minute.

    64 streams go on by themselves for up to 480 frames. Every eight frames each goes over to what a recorded driver did
    where it looked alike, so that the drivers answer to the model's road and stay on it. Under the actions of one
    recording nearly all are beside the road soon, and what is learned there has noise in the grass, which `details`
    prevents.

    Data: drives in Gymnasium's CarRacing-v3 (MIT), or recordings of your own play with ``--data folder:PATH``.
    Needs a teacher: no, but a trained world to go on with; the shipped model racing by default, which had it already.
    Hardware: one core of a CPU with bf16 units.
    Time: 17 minutes, 40 steps. The weights go past their aim then: mix them with those before, as the shipped model is
    (`unistep convert BEFORE --mix RUN --share 0.6 --bits 7 -o MINE`).
    Expected: see the card of the shipped model.
    Paper: Yang et al. 2026 (arXiv 2604.28190), section 3; `objectives/fd.py` and `training/own_streams.py`.
    """
    method, named = post_training.fd(), ("random-convolutions", "details", "scales", "pixels")
    objective = FDConfig(representations=named, streams=64, answering=True)
    often = replace(method.selection, every=8)
    own = replace(method, objective=objective, selection=often, budget="17m", auto=())
    return own.run("racing/fd", DATA, CLIPS, NETWORK, codec=CODEC, context=ROLLED_OUT, init="racing")
