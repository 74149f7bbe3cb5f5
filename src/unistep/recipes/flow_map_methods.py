"""Recipes by method: flow maps, which jump between any two noise levels."""

from __future__ import annotations

from unistep.core.path import LinearFlow
from unistep.objectives.ctm import CTMConfig
from unistep.objectives.imf import IMFConfig
from unistep.objectives.imm import IMMConfig
from unistep.objectives.meanflow import MeanFlowConfig, MeanFlowDistillationConfig
from unistep.objectives.shortcut import ShortcutConfig
from unistep.recipes.method import TUNING_OPTIMIZER, TUNING_SCHEDULE, Method
from unistep.training.optim import AdamConfig

# From the ratio 20 on nothing is left to see of the data, and c_noise changes ever faster with time.
LINEAR = LinearFlow(sigma_max=20.0)


def meanflow() -> Method:
    """MeanFlow: the average velocity, from data alone.

    Needs a teacher: no.
    Paper: Geng et al. 2025 (arXiv 2505.13447), algorithm 1; `objectives/meanflow.py`.
    """
    return Method(kind="flow_map", path=LINEAR, objective=MeanFlowConfig(power=0.5), budget="60m")


def meanflow_distilled() -> Method:
    """MeanFlow along the ODE of a teacher, with less variance.

    Needs a teacher: yes; without --teacher, one is trained first on the same data.
    Paper: Geng et al. 2025 (arXiv 2505.13447), equation 6; `objectives/meanflow.py`.
    """
    return Method(
        kind="flow_map",
        path=LINEAR,
        objective=MeanFlowDistillationConfig(power=0.5),
        optimizer=TUNING_OPTIMIZER,
        schedule=TUNING_SCHEDULE,
    )


def imf() -> Method:
    """Improved MeanFlow: a regression on velocity, from data alone.

    Needs a teacher: no.
    Paper: Geng et al. 2025 (arXiv 2512.02012); `objectives/imf.py`.
    """
    return Method(kind="flow_map", path=LINEAR, objective=IMFConfig(power=0.5), budget="60m")


def ctm() -> Method:
    """Consistency trajectory: jumps along the ODE of a teacher.

    Needs a teacher: yes; without --teacher, one is trained first on the same data.
    Paper: Kim et al. 2024 (arXiv 2310.02279); `objectives/ctm.py`. Without the adversarial and the denoising term.
    """
    return Method(
        kind="flow_map",
        objective=CTMConfig(max_steps=3, step_power=0.0, solver="euler", target_ema=0.95, denoising_weight=0.0),
        optimizer=TUNING_OPTIMIZER,
        schedule=TUNING_SCHEDULE,
    )


def shortcut() -> Method:
    """Shortcut models: each jump from two of half its length.

    Needs a teacher: no.
    Paper: Frans et al. 2024 (arXiv 2410.12557), algorithm 1; `objectives/shortcut.py`. 16 sections rather than 128 and
    a target averaged by 0.9 rather than 0.999: long jumps have few steps in which to learn from the short ones.
    """
    return Method(
        kind="flow_map",
        path=LINEAR,
        objective=ShortcutConfig(sections=16, target_ema=0.9, starts="uniform"),
        budget="60m",
    )


def imm() -> Method:
    """Inductive moment matching: few steps, from groups of samples.

    Needs a teacher: no.
    Paper: Zhou et al. 2025 (arXiv 2503.07565), algorithm 3; `objectives/imm.py`.
    """
    return Method(
        kind="flow_map",
        path=LINEAR,
        objective=IMMConfig(particles=16, k=8.0),
        optimizer=AdamConfig(lr=3e-4),
        batch_size=128,
        auto=("network", "size", "optimizer"),  # a batch is a whole number of groups of particles
        budget="60m",
    )
