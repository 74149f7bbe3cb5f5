"""Consistency training: a one-step model from data alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import Condition, drop
from unistep.core.flowmap import ConsistencyModel, Denoiser, Map
from unistep.core.seeding import Randomness, randn_like
from unistep.core.timesteps import (
    ConstantLevels,
    DiscretisedLogNormal,
    DoublingCurriculum,
    SqrtCurriculum,
    UniformIndex,
    karras_grid,
)
from unistep.objectives.base import (
    Loss,
    Objective,
    ObjectiveConfig,
    ema_update,
    expects,
    frozen_copy,
    item_level,
    with_same_dropout,
)
from unistep.objectives.distance import Distance, Metric, SquaredL2, weighted_distance

Curriculum = SqrtCurriculum | DoublingCurriculum | ConstantLevels
"""The number of noise levels, and the decay of the target, along training."""
IndexLaw = UniformIndex | DiscretisedLogNormal
"""Which of the neighbouring pairs of levels is trained."""


@dataclass(frozen=True, kw_only=True)
class CTConfig(ObjectiveConfig):
    """Train a consistency model from data alone, with the schedules of CT, or of iCT by choosing its parts."""

    trains = ConsistencyModel
    starts_from_teacher = False
    papers = ("song2023consistency",)
    supports_level_axes = True

    curriculum: Curriculum = SqrtCurriculum()
    """Number of noise levels and decay of the target along training."""
    law: IndexLaw = UniformIndex()
    """Distribution of the trained pair of levels."""
    distance: Distance = SquaredL2()
    """Distance between the two predictions."""
    weighting: Literal["one", "inverse_gap"] = "one"
    """CT weights all levels equally, iCT by the inverse of the gap between the two."""
    rho: float = 7.0
    """Density of the levels near the data."""
    label_dropout: float = 0.0
    """Share of examples trained without their condition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rho < math.inf:
            raise ValueError(f"rho must be positive, got {self.rho}; the paper has 7")

    def build(self, student: Map, teacher: Denoiser | None) -> ConsistencyTraining:
        """The objective; it uses no teacher."""
        del teacher
        student = expects(student, ConsistencyModel)
        return ConsistencyTraining(student, self)


class ConsistencyTraining(Objective):
    r"""Consistency of neighbouring noise levels on the same data and the same noise.

    .. math:: E\left[\lambda\, d\big(f_\theta(x_0 + t_{n+1} z, t_{n+1}),\; f_{\theta^-}(x_0 + t_n z, t_n)\big)\right]

    Args:
        student: The consistency model.
        config: Its options.
        metric: A distance to use in place of the configured one, such as LPIPS.

    References:
        Song et al. 2023, arXiv 2303.01469, algorithm 3.
    """

    student: ConsistencyModel

    def __init__(self, student: ConsistencyModel, config: CTConfig, metric: Metric | None = None) -> None:
        super().__init__(student)
        self.config = config
        self.metric = metric or config.distance
        # With a decay of 0 the target is the student itself and needs no copy.
        self.target = frozen_copy(student) if config.curriculum.target_decay(0.0) > 0 else None

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`."""
        path = self.student.path
        count = self.config.curriculum.levels(progress)
        sigma_min, sigma_max = (float(path.ratio(x0.new_tensor(t))) for t in (path.t_min, path.t_max))
        levels = karras_grid(count, sigma_min, sigma_max, self.config.rho).flip(0)
        index = self.config.law.draw(self.config.level_shape(x0), levels, generator).cpu()
        sigma, sigma_next = levels[index].to(x0), levels[index + 1].to(x0)
        noise = randn_like(x0, generator)
        condition = drop(condition, self.config.label_dropout, generator)
        t, t_next = path.time_at(sigma), path.time_at(sigma_next)
        x_t, x_next = path.perturb(x0, noise, t), path.perturb(x0, noise, t_next)
        target = self.student if self.target is None else self.target
        answer, wanted = with_same_dropout(
            lambda: self.student(x_next, t_next, None, condition),
            lambda: target(x_t, t, None, condition),
            x0.device,
        )
        gap = sigma_next - sigma
        weight = 1 / gap if self.config.weighting == "inverse_gap" else torch.ones_like(gap)
        loss, distance = weighted_distance(self.metric, answer, wanted, weight)
        logs = {"ct/levels": x0.new_tensor(count), "ct/distance": distance.detach().mean()}
        return Loss(loss, logs, item_level(sigma_next))

    def after_step(self, progress: float) -> None:
        """Update the target towards the student with the curriculum's decay."""
        if self.target is not None:
            ema_update(self.target, self.student, self.config.curriculum.target_decay(progress))
