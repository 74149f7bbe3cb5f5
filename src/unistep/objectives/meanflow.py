"""MeanFlow: the average velocity between two times, learned from data or from a teacher by its own identity."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import GUIDANCE, Condition, concat, drop, labels, null_condition
from unistep.core.flowmap import AnyDenoiser, Denoiser, FlowMap, Map
from unistep.core.path import LinearFlow, expand_to, match_snr
from unistep.core.seeding import Randomness, randn_like
from unistep.objectives.base import Loss, Objective, expects, item_level
from unistep.objectives.guidance import GuidanceRangeConfig, GuidedTeacherConfig, weights
from unistep.objectives.tangent import TangentMethod, value_and_tangent
from unistep.objectives.time_pairs import LogitNormalPairs, TimePairs, pair_on_path


@dataclass(frozen=True, kw_only=True)
class TargetGuidance:
    r"""Classifier-free guidance inside the target, so that sampling needs one network call.

    .. math:: \tilde v = \omega\, v + \kappa\, u_\theta(z, t, t\,|\,c) + (1 - \omega - \kappa)\, u_\theta(z, t, t)

    for times within the interval; outside it and for examples without a condition, :math:`\tilde v = v`. The field
    that is learned is guided with weight :math:`\omega' = \omega / (1 - \kappa)`; :math:`\kappa > 0` mixes the
    network's own guided velocity into the target, which lowers its variance.

    References:
        Geng et al. 2025, arXiv 2505.13447, section 4.2, and the appendix on improved
        guidance for :math:`\kappa`.
    """

    omega: float = 1.0
    r""":math:`\omega`, the weight of the data's velocity; 1 with ``kappa`` 0 is no guidance."""
    kappa: float = 0.0
    r""":math:`\kappa`, the weight of the network's own conditional velocity."""
    start: float = 0.0
    """Smallest guided time, on the straight path (0 is data and 1 noise), whatever the student's path."""
    end: float = 1.0
    """Largest guided time, on the straight path."""

    def __post_init__(self) -> None:
        if not self.omega > 0 or not 0 <= self.kappa < 1:
            raise ValueError(f"omega must be positive and kappa in [0, 1), got {self.omega} and {self.kappa}")
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(f"guidance needs 0 <= start < end <= 1, got {self.start} and {self.end}")

    @property
    def active(self) -> bool:
        """Whether there is any guidance."""
        return self.omega != 1 or self.kappa != 0

    @property
    def effective(self) -> float:
        r"""Guidance weight of the learned field, :math:`\omega' = \omega / (1 - \kappa)`."""
        return self.omega / (1 - self.kappa)


@dataclass(frozen=True, kw_only=True)
class AverageVelocityConfig(GuidanceRangeConfig):
    """Options of MeanFlow and its relatives."""

    trains = FlowMap
    two_times = True
    follows_tangent = True
    papers = ("geng2025meanflow",)
    supports_level_axes = True

    times: TimePairs = LogitNormalPairs()
    """Distribution of the two times."""
    power: float = 0.75
    """:math:`p` of the adaptive weight: 0 is the plain squared error, 0.75 the choice for CIFAR-10, 1 for ImageNet."""
    eps: float = 1e-3
    """Constant that keeps the adaptive weight finite."""
    tangent: TangentMethod = "exact"
    """How the derivative along the trajectory is computed."""
    tangent_step: float = 1e-3
    """Step in time of the ``finite`` tangent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.power >= 0 or not self.eps > 0:
            raise ValueError(f"power must not be negative and eps must be positive, got {self.power} and {self.eps}")
        if not self.tangent_step > 0:
            raise ValueError(f"tangent_step must be positive, got {self.tangent_step}; 0.001 is usual")


@dataclass(frozen=True, kw_only=True)
class FromDataConfig(AverageVelocityConfig):
    """Options of the objectives that learn the average velocity from data."""

    starts_from_teacher = False

    guidance: TargetGuidance = TargetGuidance()
    r"""Guidance that the student learns; without conditions it does nothing. With ``guidance_range`` each example has
    its own :math:`\omega'`, and :math:`\omega = (1 - \kappa)\,\omega'`."""
    label_dropout: float = 0.0
    """Share of examples trained without their condition; guidance needs some, such as 0.1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_dropout < 1:
            raise ValueError(f"label_dropout must be in [0, 1), got {self.label_dropout}")
        if self.guides and self.label_dropout == 0:
            raise ValueError("guidance asks the network without its condition; train that with label_dropout above 0")
        if self.guidance_range is not None and not self.guidance_range[0] > 0:
            raise ValueError(f"guidance_range must be above 0, as omega is, got {self.guidance_range}")

    @property
    def guides(self) -> bool:
        """Whether there is any guidance, of one weight or of many."""
        return self.guidance.active or self.guidance_range is not None

    @property
    def usual_weight(self) -> float:
        """The weight of the learned field."""
        return self.guidance.effective


@dataclass(frozen=True, kw_only=True)
class MeanFlowConfig(FromDataConfig):
    """Learn the average velocity from data alone."""

    def build(self, student: Map, teacher: Denoiser | None) -> MeanFlow:
        """The objective; it uses no teacher."""
        del teacher
        student = expects(student, FlowMap)
        return MeanFlow(student, self)


@dataclass(frozen=True, kw_only=True)
class MeanFlowDistillationConfig(AverageVelocityConfig, GuidedTeacherConfig):
    """Learn the average velocity of a teacher's ODE."""

    starts_from_teacher = True

    def build(self, student: Map, teacher: Denoiser | None) -> MeanFlowDistillation:
        """The objective along the ODE of the teacher."""
        student = expects(student, FlowMap)
        if teacher is None:
            raise ValueError("distillation needs a teacher; name one with --teacher")
        return MeanFlowDistillation(student, teacher, self)


class AverageVelocity(Objective):
    r"""The MeanFlow identity :math:`u = v - (t - r)\,\frac{\mathrm d u}{\mathrm d t}` as a loss, on any path.

    .. math:: \Delta = u_\theta(z_t, t, r) + (t - r)\, \mathrm{sg}\!\left(
              \partial_z u_\theta \cdot w + \partial_t u_\theta\right) - v, \qquad
              L = \frac{\lVert\Delta\rVert_2^2}{\mathrm{sg}(\lVert\Delta\rVert_2^2 + \epsilon)^p}

    with the sum over all elements of a signal. The methods differ in the target velocity :math:`v` and in the
    direction :math:`w` of the derivative. At ``r = t`` this is flow matching.

    Args:
        student: The flow map.
        config: Its options.
        teacher: The denoiser of a distillation.
    """

    student: FlowMap

    def __init__(self, student: FlowMap, config: AverageVelocityConfig, teacher: AnyDenoiser | None = None) -> None:
        super().__init__(student, teacher)
        self.config = config
        self.label_dropout = config.label_dropout if isinstance(config, FromDataConfig) else 0.0

    @abstractmethod
    def velocities(
        self, x0: Tensor, noise: Tensor, z: Tensor, t: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """The target velocity and the direction of the derivative, both without gradient, of the shape of ``z``.

        Args:
            x0: Clean data.
            noise: Standard noise.
            z: Their point at time ``t``.
            t: Times, shape ``[b]``.
            condition: Condition of the student, after dropout.
        """

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`."""
        del progress
        config, student = self.config, self.student
        ratio_t, ratio_r = (ratio.to(x0) for ratio in config.times.draw(config.level_shape(x0), generator))
        t, r = pair_on_path(student.path, student.boundary, ratio_t, ratio_r)
        noise = randn_like(x0, generator)
        condition = drop(config.sample_guidance(condition, x0, generator), self.label_dropout, generator)
        z = student.path.perturb(x0, noise, t)
        v, direction = self.velocities(x0, noise, z, t, condition)
        tangents = direction, torch.ones_like(t)
        if config.level_axes:
            # Times that differ arrive at their ends together, so that each moves in proportion to its way.
            tangents = expand_to(t - r, z) * direction, t - r
        # The derivative leaves r constant, so it is no primal: at zero noise sigma may have infinite slope.
        u, du_dt = value_and_tangent(
            lambda z, t: student.velocity(z, t, r, condition),
            (z, t),
            tangents,
            method=config.tangent,
            step=config.tangent_step,
        )
        correction = du_dt if config.level_axes else expand_to(t - r, z) * du_dt
        squared = (u + correction - v).square().flatten(1).sum(dim=1)
        loss = squared / (squared.detach() + config.eps).pow(config.power)
        logs = {
            "meanflow/error": squared.detach().mean(),
            "meanflow/correction": correction.square().flatten(1).sum(dim=1).mean(),
        }
        return Loss(loss, logs, item_level(ratio_t))


class FromData(AverageVelocity):
    """The objectives that learn the average velocity from data, with guidance in the target.

    Args:
        student: The flow map.
        config: Its options.
    """

    config: FromDataConfig

    def __init__(self, student: FlowMap, config: FromDataConfig) -> None:
        super().__init__(student, config)

    def instantaneous(self, z: Tensor, t: Tensor, *conditions: Condition) -> tuple[Tensor, ...]:
        r"""The student's velocity :math:`u_\theta(z, t, t)` under each condition, in one batch without gradient."""
        many = len(conditions)
        z_all, t_all = torch.cat([z] * many), torch.cat([t] * many)
        with torch.no_grad():
            answer = self.student.velocity(z_all, t_all, t_all, concat(conditions))
        # Weights that autocast has cast without gradient must not serve the student from its cache.
        torch.clear_autocast_cache()
        return answer.chunk(many)

    def mixture(self, v: Tensor, condition: Condition) -> tuple[Tensor | float, Tensor | float]:
        r""":math:`\omega` and :math:`\kappa`, for each example if it has a weight :math:`\omega'` of its own.

        Args:
            v: A batch, for the shape.
            condition: Condition of the student.
        """
        guidance = self.config.guidance
        if GUIDANCE not in condition:
            return guidance.omega, guidance.kappa
        return (1 - guidance.kappa) * weights(condition, guidance.effective, v), guidance.kappa

    def guided(
        self, v: Tensor, t: Tensor, condition: Condition, unconditional: Tensor, conditional: Tensor | None = None
    ) -> Tensor:
        r"""The guided target :math:`\tilde v`; see :class:`TargetGuidance`.

        Args:
            v: Velocity of the data, shape ``[b, *shape]``.
            t: Times, shape ``[b]``.
            condition: Condition of the student.
            unconditional: The student's velocity without condition.
            conditional: Its velocity with the condition; needed if ``kappa`` is not 0.
        """
        guidance = self.config.guidance
        omega, kappa = self.mixture(v, condition)
        mixed = omega * v + (1 - omega - kappa) * unconditional
        if conditional is not None:
            mixed = mixed + kappa * conditional
        time = LinearFlow().time_at(self.student.path.ratio(t))
        inside = (time >= guidance.start) & (time <= guidance.end)
        shown = [value for name, value in labels(condition).items() if name != GUIDANCE]
        if not shown:
            return v
        conditioned = torch.stack([value.has_condition() for value in shown]).any(dim=0)
        return torch.where(expand_to(inside, v) & expand_to(conditioned, v), mixed, v)


class MeanFlow(FromData):
    r"""MeanFlow: :math:`v` is the velocity of one pair of data and noise, and the trajectory follows it too.

    References:
        Geng et al. 2025, arXiv 2505.13447, equation 6 and algorithm 1; the adaptive weight is
        in section 4.3.
    """

    def velocities(
        self, x0: Tensor, noise: Tensor, z: Tensor, t: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """The velocity of the pair, with guidance if configured, for both."""
        v = self.student.path.velocity(x0, noise, t)
        if self.config.guides and labels(condition):
            asked = (
                (null_condition(condition), condition) if self.config.guidance.kappa else (null_condition(condition),)
            )
            v = self.guided(v, t, condition, *self.instantaneous(z, t, *asked))
        return v, v


class MeanFlowDistillation(AverageVelocity):
    r"""MeanFlow along the ODE of a teacher, :math:`v = v_\phi(z, t)`: a target without the noise of the pairs.

    The teacher is evaluated at the point of its own path with the same noise to signal ratio.

    Args:
        student: The flow map.
        teacher: The denoiser to distil.
        config: Its options.

    References:
        Geng et al. 2025, arXiv 2505.13447, equation 6, with the marginal velocity in place of the conditional one.
    """

    def __init__(self, student: FlowMap, teacher: Denoiser, config: MeanFlowDistillationConfig) -> None:
        super().__init__(student, config, config.guided(teacher))
        self.teacher_path = teacher.path

    def velocities(
        self, x0: Tensor, noise: Tensor, z: Tensor, t: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """The teacher's velocity, for both."""
        del x0, noise
        path = self.student.path
        assert self.teacher is not None
        with torch.no_grad():
            x_teacher, t_teacher = match_snr(z, t, path, self.teacher_path)
            v = path.velocity_from_denoised(z, self.teacher(x_teacher, t_teacher, None, condition), t)
        return v, v
