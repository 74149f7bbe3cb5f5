"""Recipes for Fashion-MNIST: flow maps, which jump between any two noise levels."""

from __future__ import annotations

from dataclasses import replace

from unistep.core.path import LinearFlow
from unistep.data import DataConfig
from unistep.generation.model_config import ModelConfig
from unistep.objectives.ctm import CTMConfig
from unistep.objectives.imf import IMFConfig
from unistep.objectives.imm import IMMConfig
from unistep.objectives.meanflow import MeanFlowConfig, MeanFlowDistillationConfig
from unistep.objectives.shortcut import ShortcutConfig
from unistep.recipes.fashion import IMAGES, NETWORK, TUNING
from unistep.training.ema import PowerEMA
from unistep.training.optim import AdamConfig
from unistep.training.run_config import RunConfig

TWO_TIMES = replace(NETWORK, second_time=True)
"""The network with the second time that a flow map jumps to."""
# From the ratio 20 on there is nothing left to see of the data, and the noise code changes ever faster with time.
FLOW_MAP = ModelConfig(
    kind="flow_map", network=TWO_TIMES, modality=IMAGES, path=LinearFlow(sigma_max=20.0), boundary=0.0
)


def fashion_meanflow() -> RunConfig:
    """MeanFlow: the average velocity between two times, from data alone.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH``.
    Needs a teacher: no.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 3 in one step and 1.1 in two, within 20 %, five minutes after a start from the
    weights of the shipped teacher with a guidance of 1.2 in the target; 20 and 22 after as long from fresh weights
    (features `fashion` v1, 2,000 samples, `benchmarks/methods.py`).
    Paper: Geng et al. 2025 (arXiv 2505.13447), algorithm 1; `objectives/meanflow.py`.
    """
    return RunConfig(
        recipe="fashion-meanflow",
        data=DataConfig(),
        model=FLOW_MAP,
        objective=MeanFlowConfig(power=0.5),
        emas=(PowerEMA(sigma_rel=0.1),),
        budget="60m",
    )


def fashion_meanflow_distilled() -> RunConfig:
    """MeanFlow along the ODE of a teacher: the average velocity without the noise of single pairs.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH`` (a teacher is trained first then).
    Needs a teacher: yes; the shipped one by default.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 2.3 in one step and 0.94 in two, within 20 %, five minutes after a start from the
    shipped teacher with a guidance of 1.2 in the target (features `fashion` v1, 2,000 samples,
    `benchmarks/methods.py`).
    Paper: Geng et al. 2025 (arXiv 2505.13447), equation 6; `objectives/meanflow.py`.
    """
    return RunConfig(
        recipe="fashion-meanflow-distilled",
        data=DataConfig(),
        model=FLOW_MAP,
        objective=MeanFlowDistillationConfig(power=0.5),
        teacher="fashion-teacher",
        **TUNING,
    )


def fashion_imf() -> RunConfig:
    """Improved MeanFlow: a regression on the instantaneous velocity through the average one, from data alone.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH``.
    Needs a teacher: no.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 3.2 in one step and 1.3 in two, within 20 %, five minutes after a start from the
    weights of the shipped teacher with a guidance of 1.2 in the target; 18 and 19 after as long from fresh weights
    (features `fashion` v1, 2,000 samples, `benchmarks/methods.py`).
    Paper: Geng et al. 2025 (arXiv 2512.02012); `objectives/imf.py`.
    """
    return replace(fashion_meanflow(), recipe="fashion-imf", objective=IMFConfig(power=0.5))


def fashion_ctm() -> RunConfig:
    """Consistency trajectory: a map between any two noise levels of the teacher's ODE.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH`` (a teacher is trained first then).
    Needs a teacher: yes; the shipped one by default.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 4.5 in one step and 2.1 in two, within 20 %, five minutes after a start from the
    shipped teacher with a guidance of 1.2 in the target (features `fashion` v1, 2,000 samples,
    `benchmarks/methods.py`).
    Paper: Kim et al. 2024 (arXiv 2310.02279); `objectives/ctm.py`. Without the adversarial
    and the denoising term.
    """
    return RunConfig(
        recipe="fashion-ctm",
        data=DataConfig(),
        model=ModelConfig(kind="flow_map", network=TWO_TIMES, modality=IMAGES),
        objective=CTMConfig(max_steps=3, step_power=0.0, solver="euler", target_ema=0.95, denoising_weight=0.0),
        teacher="fashion-teacher",
        **TUNING,
    )


def fashion_shortcut() -> RunConfig:
    """Shortcut models: jumps of every length, each taught by two of half its length, from data alone.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH``.
    Needs a teacher: no.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 6.8 in one step and 1.7 in two, within 20 %, five minutes after a start from the
    weights of the shipped teacher with a guidance of 1.2 in the target (features `fashion` v1, 2,000 samples,
    `benchmarks/methods.py`).
    Paper: Frans et al. 2024 (arXiv 2410.12557), algorithm 1; `objectives/shortcut.py`. 16 sections rather than 128 and
    a target averaged by 0.9 rather than 0.999: what short jumps know has few steps in which to reach the long ones.
    """
    return replace(
        fashion_meanflow(),
        recipe="fashion-shortcut",
        objective=ShortcutConfig(sections=16, target_ema=0.9, starts="uniform"),
    )


def fashion_imm() -> RunConfig:
    """Inductive moment matching: a few-step model from data alone, by comparing groups of samples.

    Data: Fashion-MNIST, 60,000 images, or yours with ``--data folder:PATH``.
    Needs a teacher: no.
    Hardware: one core of a CPU with AMX, bfloat16.
    Time: minutes for a first result, given as expected; the budget for a better one.
    Expected: Fréchet distance 10 in one step and 1.6 in two, within 20 %, five minutes after a start from the
    weights of the shipped teacher; 27 and 23 after as long from fresh weights (features `fashion` v1, 2,000
    samples, `benchmarks/methods.py`).
    Paper: Zhou et al. 2025 (arXiv 2503.07565), algorithm 3; `objectives/imm.py`.
    """
    return replace(
        fashion_meanflow(),
        recipe="fashion-imm",
        objective=IMMConfig(particles=16, k=8.0),
        optimizer=AdamConfig(lr=3e-4),
        batch_size=128,
    )
