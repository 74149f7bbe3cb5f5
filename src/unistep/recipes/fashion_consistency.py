"""Recipes for Fashion-MNIST: the further one-step models, maps from any noise level to the data."""

from __future__ import annotations

from dataclasses import replace

from unistep.core.path import TrigFlow
from unistep.core.timesteps import DoublingCurriculum, RatioCurriculum
from unistep.data import DataConfig
from unistep.generation.model_config import ModelConfig
from unistep.objectives.drifting import DriftingConfig
from unistep.objectives.ict import ICTConfig
from unistep.objectives.pcm import PCMConfig
from unistep.objectives.scm import SCMConfig
from unistep.objectives.tcm import TCMConfig
from unistep.recipes.fashion import IMAGES, NETWORK, STUDENT, TUNING
from unistep.training.ema import PowerEMA
from unistep.training.optim import AdamConfig
from unistep.training.run_config import RunConfig


def fashion_ict() -> RunConfig:
    """Improved consistency training: a one-step model from data alone.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH``.
    Needs a teacher: no.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 3.6 in one step and 1.3 in two, within 20 %, five minutes after a start from the
    weights of the shipped teacher; 20 and 20 after as long from fresh weights (features `fashion` v1, 2,000
    samples, `benchmarks/methods.py`).
    Paper: Song & Dhariwal 2023 (arXiv 2310.14189); `objectives/ict.py`. 10 to 160 levels rather than 1,280, for
    budgets of minutes.
    """
    return RunConfig(
        recipe="fashion-ict",
        data=DataConfig(),
        model=replace(STUDENT, boundary=0.002),
        objective=ICTConfig(curriculum=DoublingCurriculum(start=10, end=160)),
        emas=(PowerEMA(sigma_rel=0.1),),
        budget="60m",
    )


def fashion_sct() -> RunConfig:
    """Continuous-time consistency tuning (sCT): a one-step model from a teacher's weights, without time steps.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH`` (a teacher is trained first then).
    Needs a teacher: yes, for its weights; the shipped one by default.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 4.2 in one step and 1.7 in two, within 20 %, five minutes after a start from the
    weights of the shipped teacher (features `fashion` v1, 2,000 samples, `benchmarks/methods.py`).
    Paper: Lu & Song 2024 (arXiv 2410.11081), algorithm 1; `objectives/scm.py`.
    """
    return RunConfig(
        recipe="fashion-sct",
        data=DataConfig(),
        model=replace(STUDENT, path=TrigFlow()),
        objective=SCMConfig(),
        teacher="fashion-teacher",
        **TUNING,
    )


def fashion_scd() -> RunConfig:
    """Continuous-time consistency distillation (sCD): a one-step student of the teacher's ODE, without time steps.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH`` (a teacher is trained first then).
    Needs a teacher: yes; the shipped one by default.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 3.6 in one step and 1.1 in two, within 20 %, five minutes after a start from the
    shipped teacher with a guidance of 1.2 in the target (features `fashion` v1, 2,000 samples,
    `benchmarks/methods.py`).
    Paper: Lu & Song 2024 (arXiv 2410.11081), algorithm 1; `objectives/scm.py`.
    """
    return replace(fashion_sct(), recipe="fashion-scd", objective=SCMConfig(target="teacher"))


def fashion_tcm() -> RunConfig:
    """Truncated consistency training: a second stage on high noise only, which takes a one-step model further.

    Data: Fashion-MNIST, 60,000 images.
    Needs a teacher: yes, a one-step model as its first stage; the shipped one by default.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 2.5 in one step and 1.1 in two, within 20 %, after two and a half minutes of
    ``fashion-ect`` without guidance and as long of this (features `fashion` v1, 2,000 samples,
    `benchmarks/methods.py`). From the shipped student, which learned from a guided teacher, it gets worse.
    Paper: Lee et al. 2024 (arXiv 2410.14895); `objectives/tcm.py`.
    """
    return RunConfig(
        recipe="fashion-tcm",
        data=DataConfig(),
        model=STUDENT,
        objective=TCMConfig(curriculum=RatioCurriculum(q=64.0, stages=1)),
        teacher="fashion",
        **TUNING,
    )


def fashion_pcm() -> RunConfig:
    """Multi-phase consistency: deterministic sampling in two steps, one for each phase of the noise levels.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH`` (a teacher is trained first then).
    Needs a teacher: yes, for its weights; the shipped one by default.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 13 in one step and 2 in two, within 20 %, five minutes after a start from the weights
    of the shipped teacher (features `fashion` v1, 2,000 samples, `benchmarks/methods.py`).
    Paper: Wang et al. 2024 (arXiv 2405.18407) and Heek et al. 2024 (arXiv 2403.06807); `objectives/pcm.py`.
    """
    return RunConfig(
        recipe="fashion-pcm",
        data=DataConfig(),
        model=ModelConfig(kind="flow_map", network=NETWORK, modality=IMAGES, boundary=0.0, steps=2),
        objective=PCMConfig(phases=2, middle=3.0, curriculum=RatioCurriculum(q=4.0, stages=3)),
        teacher="fashion-teacher",
        **TUNING,
    )


def fashion_drifting() -> RunConfig:
    """Drifting: a one-step generator whose samples drift towards the data, measured in pixels.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH``.
    Needs a teacher: no.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 3.3 in one step and 2.9 in two, within 20 %, five minutes after a start from the
    weights of the shipped teacher; 19 and 23 after as long from fresh weights (features `fashion` v1, 2,000
    samples, `benchmarks/methods.py`).
    Paper: Deng et al. 2026 (arXiv 2602.04770); `objectives/drifting.py`.
    """
    return RunConfig(
        recipe="fashion-drifting",
        data=DataConfig(),
        model=STUDENT,
        objective=DriftingConfig(group=256),
        optimizer=AdamConfig(lr=5e-4),
        emas=(PowerEMA(sigma_rel=0.1),),
        batch_size=256,
        budget="60m",
    )
