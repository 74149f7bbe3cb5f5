"""Consistency distillation: a one-step student of a teacher's probability-flow ODE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import Condition
from unistep.core.flowmap import ConsistencyModel, Denoiser, Map
from unistep.core.seeding import Randomness, randn_like
from unistep.core.solvers import STEPS
from unistep.core.timesteps import UniformIndex, karras_grid
from unistep.objectives.base import Loss, Objective, ema_update, expects, frozen_copy, item_level, with_same_dropout
from unistep.objectives.ct import IndexLaw
from unistep.objectives.distance import Distance, Metric, SquaredL2
from unistep.objectives.guidance import GuidedTeacherConfig


@dataclass(frozen=True, kw_only=True)
class CDConfig(GuidedTeacherConfig):
    """Distil a teacher into a one-step student along a fixed grid of noise levels."""

    trains = ConsistencyModel
    starts_from_teacher = True
    papers = ("song2023consistency",)
    supports_level_axes = True

    levels: int = 18
    """Number of noise levels; 18 for 32-pixel images, 40 for 64 and more."""
    solver: Literal["euler", "heun"] = "heun"
    """The teacher's step from one level to the next."""
    law: IndexLaw = UniformIndex()
    """Distribution of the trained pair of levels."""
    distance: Distance = SquaredL2()
    """Distance between the two predictions."""
    target_ema: float = 0.0
    """Decay of the target network; 0 makes the target the student without gradient."""
    rho: float = 7.0
    """Density of the levels near the data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels < 2:
            raise ValueError(f"levels must be at least 2, got {self.levels}; the paper has 18 for 32-pixel images")
        if not 0 <= self.target_ema < 1:
            raise ValueError(f"target_ema must be from 0 (no averaged target) to below 1, got {self.target_ema}")
        if not 0 < self.rho < math.inf:
            raise ValueError(f"rho must be positive, got {self.rho}; the paper has 7")

    def build(self, student: Map, teacher: Denoiser | None) -> ConsistencyDistillation:
        """The objective along the ODE of the teacher."""
        student = expects(student, ConsistencyModel)
        if teacher is None:
            raise ValueError("distillation needs a teacher; name one with --teacher")
        return ConsistencyDistillation(student, teacher, self)


class ConsistencyDistillation(Objective):
    r"""Consistency of neighbouring noise levels along a step of the teacher's ODE.

    .. math:: E\left[d\big(f_\theta(x_{t_{n+1}}, t_{n+1}),\; f_{\theta^-}(\hat x^\phi_{t_n}, t_n)\big)\right]

    Args:
        student: The consistency model.
        teacher: The denoiser to distil.
        config: Its options.
        metric: A distance to use in place of the configured one, such as LPIPS.

    Raises:
        ValueError: If the teacher is on another path.

    References:
        Song et al. 2023, arXiv 2303.01469, algorithm 2.
    """

    student: ConsistencyModel

    def __init__(
        self,
        student: ConsistencyModel,
        teacher: Denoiser,
        config: CDConfig,
        metric: Metric | None = None,
    ) -> None:
        if teacher.path != student.path:
            raise ValueError(f"the teacher is on the path {teacher.path}, the student on {student.path}; use one path")
        super().__init__(student, config.guided(teacher))
        self.config = config
        self.metric = metric or config.distance
        self.target = frozen_copy(student) if config.target_ema > 0 else None

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`."""
        del progress
        config, path = self.config, self.student.path
        sigma_min, sigma_max = (float(path.ratio(x0.new_tensor(t))) for t in (path.t_min, path.t_max))
        levels = karras_grid(config.levels, sigma_min, sigma_max, config.rho).flip(0)
        index = config.law.draw(config.level_shape(x0), levels, generator).cpu()
        t, t_next = path.time_at(levels[index].to(x0)), path.time_at(levels[index + 1].to(x0))
        x_next = path.perturb(x0, randn_like(x0, generator), t_next)
        condition = config.sample_guidance(condition, x0, generator)
        assert self.teacher is not None
        with torch.no_grad():
            x_t = STEPS[config.solver](self.teacher, x_next, t_next, t, condition)  # type: ignore[arg-type]
        target = self.student if self.target is None else self.target
        answer, wanted = with_same_dropout(
            lambda: self.student(x_next, t_next, None, condition),
            lambda: target(x_t, t, None, condition),
            x0.device,
        )
        distance = self.metric(answer, wanted)
        return Loss(distance, {"cd/distance": distance.detach().mean()}, item_level(path.ratio(t_next)))

    def after_step(self, progress: float) -> None:
        """Update the target towards the student."""
        del progress
        if self.target is not None:
            ema_update(self.target, self.student, self.config.target_ema)
