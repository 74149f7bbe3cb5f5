"""Recipes by method: post-training, which improves a trained model."""

from __future__ import annotations

from unistep.objectives.fd import FDConfig
from unistep.recipes.method import Method
from unistep.training.ema import PowerEMA
from unistep.training.optim import AdamConfig, Schedule
from unistep.training.selection import SelectionConfig


def fd() -> Method:
    """FD loss: post-training on a distribution distance.

    Needs a teacher: no, but a trained model to go on with, of one or of many steps: --init.
    Paper: Yang et al. 2026 (arXiv 2604.28190), section 3; `objectives/fd.py`. A population of 1,024 rather than
    50,000, so that its moments follow the weights within a budget of minutes.
    """
    return Method(
        kind="consistency",
        objective=FDConfig(),
        optimizer=AdamConfig(lr=1e-5),
        schedule=Schedule(warmup_steps=10, decay=0.5),
        emas=(PowerEMA(sigma_rel=0.1),),
        batch_size=128,
        selection=SelectionConfig(every=20),
        auto=("size",),  # the network is that of the model to go on with
        budget="5m",
    )
