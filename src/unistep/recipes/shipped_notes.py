"""Reproductions of the shipped instrument: notes of one second."""

from __future__ import annotations

from dataclasses import replace

from unistep.codecs.spectrum import SpectrumConfig
from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.data import DataConfig
from unistep.modalities.audio import AudioModality
from unistep.nets.unet_config import UNetConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.ect import ECTConfig
from unistep.recipes import consistency_methods
from unistep.recipes.method import TUNING_SCHEDULE
from unistep.training.optim import MuonConfig
from unistep.training.run_config import RunConfig

NOTES = DataConfig(source="notes", modality="audio")
SOUNDS = AudioModality(sample_rate=16_000, samples=16_000)
NETWORK = UNetConfig(
    channels=512,
    dims=1,
    patch=1,
    widths=(256, 256),
    blocks=(1, 1),
    embedding_dim=512,
    position_sizes=SpectrumConfig(dims=1).shape(SOUNDS.shape)[1:],
    gated_skip=True,
    basis_functions=2048,
)
"""10.7 million parameters, over 64 frames in which each of 256 frequencies is two channels."""
WIDEST_GAP = ECTConfig(
    times=LogNormal(mean=1.0, std=2.0), curriculum=RatioCurriculum(q=8 / 7, stages=1), weighting="one"
)
"""For sounds that the condition almost determines: from noise levels above 2 to an eighth of them, and from those below
to the data."""
TUNED_SOUNDS = replace(
    consistency_methods.ect(),
    objective=WIDEST_GAP,
    optimizer=MuonConfig(lr=3e-4, adam_lr=1e-4),
    schedule=TUNING_SCHEDULE,
    batch_size=32,
    budget="40m",
)
"""Easy consistency tuning at a third of the usual rates."""


def denoising() -> RunConfig:
    """A denoiser of notes by instrument, pitch and velocity: the shipped `notes-teacher`.

    The condition almost determines what a note sounds like, so much is learned at high noise: there the timestep
    distribution has its weight, and the network ends in a conditioned basis head.

    Data: 7,770 notes of one second at 16 kHz, rendered from Debian's fluid-soundfont-gm (MIT).
    Hardware: one core of a CPU with AMX, bfloat16, compiled.
    Time: 79 minutes for the shipped model: 47 for 240,000 notes without the basis head, 32 for 96,000 with it.
    Expected: Fréchet distance 1.3 in 18 Heun steps, within 10 % (features `notes` v1, 2,000 notes).
    Paper: Karras et al. 2022 (arXiv 2206.00364); `objectives/denoising.py`. Muon in place of Adam. Spectra as in
    Pasini et al. 2024 (arXiv 2408.06500).
    """
    method = replace(
        consistency_methods.denoising(),
        objective=DenoisingConfig(times=LogNormal(mean=1.0, std=2.0), label_dropout=0.05),
        batch_size=32,
        budget="40m",
    )
    return method.run("notes/denoising", NOTES, SOUNDS, NETWORK)


def ect() -> RunConfig:
    """Easy consistency tuning of the notes' teacher: an instrument that plays a note in one network call.

    The condition almost determines a note, so the widest gap between noise levels works well: from levels above 2 to
    an eighth of them, and from those below to the data, all with the same weight, at a third of the usual rates. The
    weight 1/(t - r) forgets what the teacher has learned at high noise, and the errors of many narrow gaps add up.

    Data: 7,770 notes of one second at 16 kHz, rendered from Debian's fluid-soundfont-gm (MIT).
    Needs a teacher: yes; the shipped one by default.
    Hardware: one core of a CPU with AMX, bfloat16, compiled.
    Time: 23 minutes for the 70,400 notes of the shipped model, with other work on the core, after its teacher's.
    Expected: Fréchet distance 1.2 in one step, within 10 % (features `notes` v1, 2,000 notes), every pitch right.
    Paper: Geng et al. 2024 (arXiv 2406.14548), algorithm 1; `objectives/ect.py`. Spectra as in Pasini et al. 2024
    (arXiv 2408.06500).
    """
    return TUNED_SOUNDS.run("notes/ect", NOTES, SOUNDS, NETWORK, teacher="notes-teacher")
