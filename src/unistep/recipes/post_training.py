"""Recipes by method: post-training, which improves a trained model."""

from __future__ import annotations

from unistep.objectives.fd import FDConfig
from unistep.recipes.method import Method
from unistep.training.ema import PowerEMA
from unistep.training.finish import BATCH_SIZE, OPTIMIZER, SCHEDULE, SELECTION


def fd() -> Method:
    """FD loss: post-training on a distribution distance.

    Needs a teacher: no, but a trained model to go on with, of one or of many steps: --init.
    Paper: Yang et al. 2026 (arXiv 2604.28190), section 3; `objectives/fd.py`. A population of 1,024 rather than
    50,000, so that its moments follow the weights within a budget of minutes.
    """
    return Method(
        kind="consistency",
        objective=FDConfig(),
        optimizer=OPTIMIZER,
        schedule=SCHEDULE,
        emas=(PowerEMA(sigma_rel=0.1),),
        batch_size=BATCH_SIZE,
        selection=SELECTION,
        auto=("size",),  # the network is that of the model to go on with
        budget="5m",
    )
