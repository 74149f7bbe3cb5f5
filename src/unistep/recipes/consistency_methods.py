"""Recipes by method: denoisers, and maps from any noise level to the data."""

from __future__ import annotations

from unistep.core.path import TrigFlow
from unistep.core.timesteps import DoublingCurriculum, LogNormal, RatioCurriculum, SqrtCurriculum
from unistep.objectives.cd import CDConfig
from unistep.objectives.ct import CTConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.distance import PseudoHuber
from unistep.objectives.drifting import DriftingConfig
from unistep.objectives.ect import ECTConfig
from unistep.objectives.ict import ICTConfig
from unistep.objectives.pcm import PCMConfig
from unistep.objectives.scm import SCMConfig
from unistep.objectives.tcm import TCMConfig
from unistep.recipes.method import TUNING_OPTIMIZER, TUNING_SCHEDULE, Method
from unistep.training.ema import PowerEMA
from unistep.training.optim import AdamConfig, Schedule


def denoising() -> Method:
    """Diffusion: a many-step denoiser, the teacher of the others.

    Needs a teacher: no.
    Paper: Karras et al. 2022 (arXiv 2206.00364); `objectives/denoising.py`. Muon in place of Adam.
    """
    return Method(
        kind="denoiser",
        objective=DenoisingConfig(),
        steps=18,
        emas=(PowerEMA(sigma_rel=0.05), PowerEMA(sigma_rel=0.1)),
        budget="90m",
    )


def ect() -> Method:
    """Easy consistency tuning of a teacher; start with this method.

    Needs a teacher: yes; without --teacher, one is trained first on the same data.
    Paper: Geng et al. 2024 (arXiv 2406.14548), algorithm 1; `objectives/ect.py`.
    """
    return Method(
        kind="consistency",
        # A sample in one step starts at the largest noise, so there is more of it here than in the paper's (-1.1, 2).
        objective=ECTConfig(
            times=LogNormal(mean=0.0, std=2.0),
            # Without an anchor short runs at these rates end in grain by chance.
            curriculum=RatioCurriculum(q=4.0, stages=3, anchor=0.6),
            target="euler",
            guidance=1.2,
        ),
        optimizer=TUNING_OPTIMIZER,
        # At a constant rate the last and narrowest gap undoes what the others taught: what is left of its gradient is
        # mostly noise. Runs of a few hundred steps would stop half-way at the rates of long ones.
        schedule=Schedule(warmup_steps=50, decay=1.0, meant_for=1000),
    )


def ct() -> Method:
    """Consistency training: from data alone, by the first paper.

    Needs a teacher: no.
    Paper: Song et al. 2023 (arXiv 2303.01469), algorithm 3 and appendix C; `objectives/ct.py`. 2 to 20 levels
    rather than 150, and a target averaged by 0.5 rather than 0.9 at first: what is known at the data's end has few
    steps in which to travel to the noise.
    """
    return Method(
        kind="consistency",
        boundary=0.002,
        objective=CTConfig(curriculum=SqrtCurriculum(end=20, target_ema=0.5)),
        optimizer=AdamConfig(kind="radam", lr=4e-4),
        schedule=Schedule(warmup_steps=0, decay=0.0),
        budget="60m",
    )


def cd() -> Method:
    """Consistency distillation: along the ODE of a teacher.

    RAdam as in the paper, because Muon without an average diverges here, and a target averaged over a few steps,
    without which two steps soon get worse.

    Needs a teacher: yes; without --teacher, one is trained first on the same data.
    Paper: Song et al. 2023 (arXiv 2303.01469), algorithm 2; `objectives/cd.py`.
    """
    return Method(
        kind="consistency",
        objective=CDConfig(distance=PseudoHuber(c=0.0), target_ema=0.8),
        optimizer=AdamConfig(kind="radam", lr=4e-4),
        schedule=TUNING_SCHEDULE,
    )


def ict() -> Method:
    """Improved consistency training: from data alone.

    Needs a teacher: no.
    Paper: Song & Dhariwal 2023 (arXiv 2310.14189); `objectives/ict.py`. 10 to 160 levels rather than 1,280, for
    budgets of minutes.
    """
    return Method(
        kind="consistency",
        boundary=0.002,
        objective=ICTConfig(curriculum=DoublingCurriculum(start=10, end=160)),
        budget="60m",
    )


def sct() -> Method:
    """Continuous-time consistency tuning (sCT): no time steps.

    Needs a teacher: yes, for its weights; without --teacher, one is trained first on the same data.
    Paper: Lu & Song 2024 (arXiv 2410.11081), algorithm 1; `objectives/scm.py`.
    """
    return Method(
        kind="consistency",
        path=TrigFlow(),
        objective=SCMConfig(),
        optimizer=TUNING_OPTIMIZER,
        schedule=TUNING_SCHEDULE,
    )


def scd() -> Method:
    """Continuous-time consistency distillation (sCD) of a teacher.

    Needs a teacher: yes; without --teacher, one is trained first on the same data.
    Paper: Lu & Song 2024 (arXiv 2410.11081), algorithm 1; `objectives/scm.py`.
    """
    return Method(
        kind="consistency",
        path=TrigFlow(),
        objective=SCMConfig(target="teacher"),
        optimizer=TUNING_OPTIMIZER,
        schedule=TUNING_SCHEDULE,
    )


def tcm() -> Method:
    """Truncated consistency: a second stage on high noise only.

    Needs a teacher: yes, a one-step model of the same data as its first stage; name it with --teacher.
    Paper: Lee et al. 2024 (arXiv 2410.14895); `objectives/tcm.py`.
    """
    return Method(
        kind="consistency",
        objective=TCMConfig(curriculum=RatioCurriculum(q=64.0, stages=1)),
        optimizer=TUNING_OPTIMIZER,
        schedule=TUNING_SCHEDULE,
    )


def pcm() -> Method:
    """Multi-phase consistency: deterministic, one step per phase.

    Needs a teacher: yes, for its weights; without --teacher, one is trained first on the same data.
    Paper: Wang et al. 2024 (arXiv 2405.18407) and Heek et al. 2024 (arXiv 2403.06807); `objectives/pcm.py`.
    """
    return Method(
        kind="flow_map",
        steps=2,
        objective=PCMConfig(phases=2, middle=3.0, curriculum=RatioCurriculum(q=4.0, stages=3)),
        optimizer=TUNING_OPTIMIZER,
        schedule=TUNING_SCHEDULE,
    )


def drifting() -> Method:
    """Drifting: one-step samples that drift towards the data.

    Needs a teacher: no.
    Paper: Deng et al. 2026 (arXiv 2602.04770); `objectives/drifting.py`. Distances are between signals rather than
    features of a network.
    """
    return Method(
        kind="consistency",
        objective=DriftingConfig(group=256),
        optimizer=AdamConfig(lr=5e-4),
        batch_size=256,
        auto=("network", "size", "optimizer"),  # a batch is a whole number of groups
        budget="60m",
    )
