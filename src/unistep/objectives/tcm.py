"""Truncated consistency models: a second stage that trains at high noise only and leaves the rest to the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unistep.core.condition import Condition, drop, select
from unistep.core.flowmap import ConsistencyModel, Denoiser, Map
from unistep.core.path import expand_to
from unistep.core.seeding import Randomness, randn_like, uniform
from unistep.core.timesteps import HeavyTailed, RatioCurriculum
from unistep.objectives.base import Loss, Objective, ObjectiveConfig, expects, item_level, with_same_dropout
from unistep.objectives.distance import Distance, Metric, PseudoHuber, weighted_distance
from unistep.objectives.partial import call_where, is_compiled


@dataclass(frozen=True, kw_only=True)
class TCMConfig(ObjectiveConfig):
    """Continue training a one-step model at high noise only; its first stage serves as the boundary below."""

    trains = ConsistencyModel
    starts_from_teacher = False  # it starts from its first stage, which is not a denoiser
    teacher_kind = ConsistencyModel
    papers = ("lee2024truncated", "geng2024easy")
    supports_level_axes = True

    transition: float = 1.0
    r"""Noise level :math:`t'` above which the student is trained; 0 is the first stage's own training."""
    times: HeavyTailed = HeavyTailed()
    r"""Distribution of the noise level, truncated to :math:`[t', T]`."""
    curriculum: RatioCurriculum = RatioCurriculum(q=1000.0, stages=1)
    r"""The target level :math:`r`; the second stage continues with the ratio :math:`r/t` at which the first ended."""
    boundary_probability: float = 0.25
    r"""Share of examples at :math:`t'` itself, whose target is the first stage."""
    boundary_weight: float = 0.1
    """Weight of the average loss of those examples, that of the others being 1."""
    distance: Distance = PseudoHuber(c=0.0)
    """Distance between the two predictions."""
    weighting: Literal["inverse_gap", "snr_plus_k", "one"] = "inverse_gap"
    r""":math:`1/(t-r)` (CIFAR-10), :math:`1/t^2 + 1/\sigma_d^2` (ImageNet), or none."""
    label_dropout: float = 0.0
    """Share of examples trained without their condition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.transition >= 0:
            raise ValueError(f"transition must be a noise level of 0 or more, got {self.transition}; the paper's is 1")
        if not 0 <= self.boundary_probability < 1:
            raise ValueError(f"boundary_probability must be from 0 to below 1, got {self.boundary_probability}")
        if self.transition == 0 and self.boundary_probability > 0:
            raise ValueError(
                f"with transition 0 no level is left to the first stage: boundary_probability must be 0, "
                f"got {self.boundary_probability}"
            )
        if not self.boundary_weight >= 0:
            raise ValueError(f"boundary_weight must not be negative, got {self.boundary_weight}")

    @property
    def sigma_min_trained(self) -> float:
        """The transition."""
        return self.transition

    def build(self, student: Map, teacher: Denoiser | ConsistencyModel | None) -> TruncatedConsistencyTraining:
        """The objective above the transition, with its first stage as the teacher."""
        student = expects(student, ConsistencyModel)
        if not isinstance(teacher, ConsistencyModel):
            raise ValueError("truncated training needs its first stage: name a trained one-step model with --teacher")
        return TruncatedConsistencyTraining(student, teacher, self)


@final
class TruncatedConsistencyTraining(Objective):
    r"""Consistency of ``t`` and a target time ``r`` on :math:`[t', T]`, with a frozen first stage below ``t'``.

    .. math:: E_{t > t'}\left[w(t, r)\, d\big(f_\theta(x_t, t), \mathrm{sg} \tilde f(x_r, r)\big)\right]
              + w_b\, E_{t = t'}\left[w(t, r)\, d\big(f_\theta(x_t, t), f_{\theta_1}(x_r, r)\big)\right], \quad
              \tilde f(x, r) = \begin{cases} f_\theta(x, r) & r \ge t' \\ f_{\theta_1}(x, r) & r < t' \end{cases}

    The network no longer spends its capacity on denoising. The second term anchors it to the data: without the first
    stage at :math:`t'`, a constant would be consistent. With :math:`t' = 0` the objective is that of the
    first stage.

    The trained student is a consistency model for times from :math:`t'` up, and that is all that sampling needs: one
    step from :math:`T`, or several whose times all have a noise level of :math:`t'` at least, as the default grid of
    such a model has. Below, it is not trained and its output is meaningless; there, use the first stage.

    Args:
        student: The consistency model, which starts from the weights of the first stage.
        teacher: The first stage: a trained consistency model on the same path and with the same boundary.
        config: Its options.
        metric: A distance to use in place of the configured one, such as LPIPS.

    Raises:
        ValueError: If the first stage differs in its path or boundary, or the path ends below the transition.

    References:
        Lee et al. 2024, arXiv 2410.14895, the truncated parametrisation and the loss of the second stage; the ratio of
        r to t is that of Geng et al. 2024, arXiv 2406.14548, equation 13.
    """

    student: ConsistencyModel
    teacher: ConsistencyModel

    def __init__(
        self,
        student: ConsistencyModel,
        teacher: ConsistencyModel,
        config: TCMConfig,
        metric: Metric | None = None,
    ) -> None:
        if (teacher.path, teacher.boundary) != (student.path, student.boundary):
            raise ValueError(
                f"the first stage jumps to time {teacher.boundary} of {teacher.path}, the student to "
                f"{student.boundary} of {student.path}; give the student the path and boundary of its first stage"
            )
        super().__init__(student, teacher)
        self.config = config
        self.metric = metric or config.distance
        ends = torch.tensor([student.path.t_min, student.path.t_max], dtype=torch.float64)
        low, high = student.path.ratio(ends).tolist()
        self.levels = (max(config.transition, low), high)
        if not self.levels[0] < high:
            raise ValueError(f"transition must be below the path's last noise level {high:g}, got {config.transition}")

    def target(
        self, x_r: Tensor, r: Tensor, below: Bool[Tensor, "b *levels"], condition: Condition
    ) -> Float[Tensor, "b *shape"]:
        """The prediction of the student, or of the first stage where ``below`` is true."""
        # The student sees the whole batch: on a part of it, dropout would not draw the mask of the other branch.
        return self.with_first_stage(self.student(x_r, r, None, condition), x_r, r, below, condition)

    def part_target(
        self, x_r: Tensor, r: Tensor, below: Bool[Tensor, "b *levels"], condition: Condition
    ) -> Float[Tensor, "b *shape"]:
        """The same without a call of the student for items that are below with all of their parts."""

        def call(rows: Tensor) -> Tensor:
            return self.student(x_r[rows], r[rows], None, select(condition, rows))

        return self.with_first_stage(call_where(~below, call, x_r), x_r, r, below, condition)

    def with_first_stage(
        self, wanted: Tensor, x_r: Tensor, r: Tensor, below: Bool[Tensor, "b *levels"], condition: Condition
    ) -> Float[Tensor, "b *shape"]:
        """The prediction of the student ``wanted``, with that of the first stage where ``below`` is true."""
        rows = below.flatten(1).any(dim=1) if below.ndim > 1 else below
        if rows.any():
            first = self.teacher(x_r[rows], r[rows], None, select(condition, rows))
            wanted[rows] = torch.where(expand_to(below[rows], first), first, wanted[rows])
        return wanted

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`."""
        config, path = self.config, self.student.path
        shape = config.level_shape(x0)
        sigma = config.times.draw(shape, *self.levels, generator).to(x0)
        noise = randn_like(x0, generator)
        condition = drop(condition, config.label_dropout, generator)
        share = config.boundary_probability
        at_boundary = (uniform(shape, generator) < share).to(x0.device)
        sigma = torch.where(at_boundary, config.transition, sigma)
        closer = config.curriculum.closer(sigma, progress)
        t, r = path.time_at(sigma), path.time_at(closer)
        x_t, x_r = path.perturb(x0, noise, t), path.perturb(x0, noise, r)
        below = closer < config.transition
        answer, wanted = with_same_dropout(
            lambda: self.student(x_t, t, None, condition),
            lambda: self.target(x_r, r, below, condition),
            x0.device,
            None if is_compiled(self.student) else lambda: self.part_target(x_r, r, below, condition),
        )
        weight = {
            "inverse_gap": 1 / (sigma - closer),
            "snr_plus_k": 1 / sigma.square() + 1 / self.student.sigma_data**2,
            "one": torch.ones_like(sigma),
        }[config.weighting]
        # In expectation each term is an average over its own examples, whatever their shares.
        scale = torch.where(at_boundary, config.boundary_weight / max(share, 1e-12), 1 / (1 - share))
        loss, distance = weighted_distance(self.metric, answer, wanted, weight * scale)
        there = at_boundary.float() if at_boundary.ndim == 1 else at_boundary.float().flatten(1).mean(dim=1)
        logs = {
            "tcm/distance": (distance.detach() * (1 - there)).mean() / (1 - share),
            "tcm/boundary": (distance.detach() * there).mean() / max(share, 1e-12),
            "tcm/first_stage": below.float().mean(),
        }
        return Loss(loss, logs, item_level(sigma))
