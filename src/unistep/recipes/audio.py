"""Recipes for sounds: a playable instrument, drums and, with ``--data``, anyone's short sounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.data import DataConfig
from unistep.generation.model_config import ModelConfig
from unistep.modalities.audio import AudioModality
from unistep.nets.unet import UNetConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.ect import ECTConfig
from unistep.training.ema import PowerEMA
from unistep.training.optim import MuonConfig, Schedule
from unistep.training.run_config import RunConfig

SOUNDS = AudioModality(sample_rate=16_000, samples=16_000, dims=1)
NETWORK = UNetConfig(
    channels=512,
    dims=1,
    patch=1,
    widths=(256, 256),
    blocks=(1, 1),
    embedding_dim=512,
    position_sizes=(SOUNDS.frames,),
    gated_skip=True,
    basis_functions=2048,
)
"""10.7 million parameters, over 64 frames in which each of 256 frequencies is two channels."""
FEW_SOUNDS = replace(NETWORK, widths=(192, 192), embedding_dim=256, basis_functions=0)
"""3.3 million parameters, for some hundred sounds."""
STUDENT = ModelConfig(kind="consistency", network=NETWORK, modality=SOUNDS, boundary=0.0, steps=1)
NOTES = DataConfig(source="notes", kind="sound")
DRUMS = DataConfig(source="drums:permissive:tuned", kind="sound")
TUNING: dict[str, Any] = {
    "optimizer": MuonConfig(lr=3e-4, adam_lr=1e-4),
    "schedule": Schedule(warmup_steps=50, decay=0.5),
    "emas": (PowerEMA(sigma_rel=0.1),),
    "batch_size": 32,
    "budget": "40m",
}
"""How a student that starts from trained weights is optimised."""
WIDEST_GAP = ECTConfig(
    times=LogNormal(mean=1.0, std=2.0), curriculum=RatioCurriculum(q=8 / 7, stages=1), weighting="one"
)
"""For sounds that follow nearly from what is told: an eighth of the noise above level 2 and the data below."""


def notes_teacher() -> RunConfig:
    """A denoiser that is told instrument, pitch and velocity: the teacher of the one-step instrument.

    What a note sounds like follows nearly from what is told, so that much is learned at high noise, where the time law
    has its weight, and that the network ends in functions of place that are weighed by what is told.

    Data: 7,770 notes of one second at 16 kHz, rendered from Debian's fluid-soundfont-gm (MIT), or your sounds with
    ``--data folder:PATH``.
    Needs a teacher: no.
    Hardware: one core of a CPU with AMX, bfloat16, compiled.
    Time: 79 minutes for the shipped model: 47 for 240,000 notes without functions of place (``basis``), 32 for 96,000
    with them.
    Expected: Fréchet distance 1.3 in 18 Heun steps, within 10 % (features `notes` v1, 2,000 notes).
    Paper: Karras et al. 2022 (arXiv 2206.00364); `objectives/denoising.py`. Muon in place of Adam. Spectra as in
    Pasini et al. 2024 (arXiv 2408.06500).
    """
    return RunConfig(
        recipe="notes-teacher",
        data=NOTES,
        model=ModelConfig(kind="denoiser", network=NETWORK, modality=SOUNDS, steps=18),
        objective=DenoisingConfig(times=LogNormal(mean=1.0, std=2.0), label_dropout=0.05),
        emas=(PowerEMA(sigma_rel=0.05), PowerEMA(sigma_rel=0.1)),
        batch_size=32,
        budget="40m",
    )


def notes_ect() -> RunConfig:
    """Easy Consistency Tuning of the notes' teacher: an instrument that plays a note in one network call.

    A note follows nearly from what is told, so that the widest of gaps serves: an eighth of the noise above level 2
    and the data below, all weighted alike, at a third of the usual rates. The weight 1/(t - r) forgets what the teacher
    knows of high noise, and many narrow gaps add up their errors.

    Data: 7,770 notes of one second at 16 kHz, rendered from Debian's fluid-soundfont-gm (MIT), or your sounds with
    ``--data folder:PATH``.
    Needs a teacher: yes; the shipped one by default, and for other sounds one is trained first.
    Hardware: one core of a CPU with AMX, bfloat16, compiled.
    Time: 23 minutes for the 70,400 notes of the shipped model, with other work on the core, after its teacher's.
    Expected: Fréchet distance 1.2 in one step, within 10 % (features `notes` v1, 2,000 notes), every pitch right.
    Paper: Geng et al. 2024 (arXiv 2406.14548), algorithm 1; `objectives/ect.py`. Spectra as in Pasini et al. 2024
    (arXiv 2408.06500).
    """
    return RunConfig(
        recipe="notes-ect",
        data=NOTES,
        model=STUDENT,
        objective=WIDEST_GAP,
        teacher="notes-teacher",
        **TUNING,
    )


def drums_teacher() -> RunConfig:
    """A denoiser of single strokes by kind of drum: the teacher of the one-step drums.

    Data: 86 strokes under CC0 from Debian's sonic-pi-samples and hydrogen-drumkits, each in seven tunings, one second
    at 16 kHz; ``--data drums:tuned`` takes in those under GPL and CC-BY-SA, ``--data folder:PATH`` yours.
    Needs a teacher: no.
    Hardware: one core of a CPU with AMX, bfloat16, compiled.
    Time: 7 minutes for the 60,800 sounds of the shipped model.
    Expected: Fréchet distance 0.3 in 18 Heun steps, within 20 % (features `spectrum` v1, 602 sounds).
    Paper: Karras et al. 2022 (arXiv 2206.00364); `objectives/denoising.py`. Muon in place of Adam. Spectra as in
    Pasini et al. 2024 (arXiv 2408.06500).
    """
    teacher = notes_teacher()
    return replace(
        teacher,
        recipe="drums-teacher",
        data=DRUMS,
        model=replace(teacher.model, network=FEW_SOUNDS),
        objective=DenoisingConfig(times=LogNormal(mean=0.5, std=2.0), label_dropout=0.1),
        budget="20m",
    )


def drums_ect() -> RunConfig:
    """Easy Consistency Tuning of the drums' teacher: a stroke in one network call.

    Which stroke of its kind a sound becomes is open, so that gaps are narrower than those of notes: an average of
    strokes is none.

    Data: 86 strokes under CC0 from Debian's sonic-pi-samples and hydrogen-drumkits, each in seven tunings, one second
    at 16 kHz; ``--data drums:tuned`` takes in those under GPL and CC-BY-SA, ``--data folder:PATH`` yours.
    Needs a teacher: yes; the shipped one by default, and for other sounds one is trained first.
    Hardware: one core of a CPU with AMX, bfloat16, compiled.
    Time: 3 minutes for the 28,800 sounds of the shipped model, after its teacher's.
    Expected: Fréchet distance 0.22 in one step, within 20 % (features `spectrum` v1, 602 sounds).
    Paper: Geng et al. 2024 (arXiv 2406.14548), algorithm 1; `objectives/ect.py`. Spectra as in Pasini et al. 2024
    (arXiv 2408.06500).
    """
    return replace(
        notes_ect(),
        recipe="drums-ect",
        data=DRUMS,
        model=replace(STUDENT, network=FEW_SOUNDS),
        objective=replace(WIDEST_GAP, curriculum=RatioCurriculum(q=2.0, stages=2)),
        teacher="drums-teacher",
        budget="20m",
    )
