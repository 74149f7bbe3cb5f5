"""Consistency trajectory models: a map between any two times, distilled from a teacher or learned from data."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.core.condition import Condition, ConditionLike
from unistep.core.flowmap import Denoiser, FlowMap, Map
from unistep.core.seeding import Randomness, ShardGenerator, multinomial, randint, randn_like, uniform
from unistep.core.solvers import STEPS
from unistep.core.timesteps import LogNormal, karras_grid
from unistep.objectives.adversarial import AdversarialMethodConfig, gradient_ratio
from unistep.objectives.base import (
    Loss,
    Objective,
    ParamGroup,
    ema_update,
    expects,
    frozen_copy,
    item_level,
    with_same_dropout,
)
from unistep.objectives.distance import Distance, Metric, SquaredL2, weighted_distance
from unistep.objectives.guidance import GuidedTeacherConfig


@dataclass(frozen=True, kw_only=True)
class CTMBaseConfig(AdversarialMethodConfig):
    """Options of consistency trajectory models with and without a teacher."""

    trains = FlowMap
    two_times = True
    papers = ("kim2023trajectory",)
    supports_level_axes = True

    levels: int = 18
    """Number of noise levels; 18 for 32-pixel images, 40 for 64."""
    max_steps: int | None = None
    """Most steps of the grid that the solver goes from ``t`` to ``u``; ``None`` is all of them, ``levels - 1``."""
    step_power: float = 1.0
    """The solver goes ``i`` steps with probability proportional to ``i ** step_power``; 0 is uniform and cheaper."""
    solver: Literal["euler", "heun"] = "heun"
    """The solver's step from one level to the next."""
    distance: Distance = SquaredL2()
    """Distance between the two predictions, as clean signals."""
    target_ema: float = 0.999
    """Decay of the target network; 0 makes the target the student itself."""
    bridge: Literal["student", "target"] = "student"
    """Which network jumps from ``u`` to ``s``, without gradient: the authors' code has the student."""
    denoising_weight: float = 1.0
    """Weight of the denoising term; 0 leaves it out."""
    balance: Literal["fixed", "adaptive"] = "fixed"
    """``adaptive`` scales the denoising term by the ratio of the two gradients in the last layer; not with FSDP2."""
    denoising_times: LogNormal = LogNormal(mean=-1.2, std=1.2)
    """Distribution of the noise level of the denoising term."""
    rho: float = 7.0
    """Density of the levels near the data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels < 2:
            raise ValueError(f"levels must be at least 2, got {self.levels}; the paper has 18 and 40")
        if not 1 <= self.most_steps < self.levels:
            raise ValueError(f"max_steps must be from 1 to levels - 1 = {self.levels - 1}, got {self.max_steps}")
        if not 0 <= self.target_ema < 1:
            raise ValueError(f"target_ema must be in [0, 1), got {self.target_ema}; the paper has 0.999")
        if self.denoising_weight < 0:
            raise ValueError(f"denoising_weight must not be negative, got {self.denoising_weight}; 0 leaves it out")
        if self.balance == "adaptive" and self.denoising_weight == 0:
            raise ValueError("balance 'adaptive' has nothing to balance at denoising_weight 0; use 'fixed'")

    @property
    def most_steps(self) -> int:
        """Most steps of the solver."""
        return self.levels - 1 if self.max_steps is None else self.max_steps


@dataclass(frozen=True, kw_only=True)
class CTMConfig(CTMBaseConfig, GuidedTeacherConfig):
    """Distil a teacher into a map between any two times of its trajectories."""

    starts_from_teacher = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.guidance != 1 or self.guidance_range is not None) and self.denoising_weight > 0:
            what = f"guidance {self.guidance}" if self.guidance_range is None else "guidance_range"
            raise ValueError(f"{what} and the denoising term pull the short jumps apart; set denoising_weight=0")

    def build(
        self, student: Map, teacher: Denoiser | None, discriminator: nn.Module | None = None
    ) -> ConsistencyTrajectory:
        """The objective along the ODE of the teacher."""
        student = expects(student, FlowMap)
        if teacher is None:
            raise ValueError("trajectory distillation needs a teacher; name one with --teacher")
        return ConsistencyTrajectory(student, teacher, self, discriminator=discriminator)


@dataclass(frozen=True, kw_only=True)
class CTMTrainingConfig(CTMBaseConfig):
    """Learn a map between any two times from data alone."""

    starts_from_teacher = False

    source: Literal["self", "data"] = "self"
    """``self`` solves the ODE of the target's own denoiser, ``data`` takes ``x_u`` of the same data and noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == "data" and self.most_steps > 1:
            raise ValueError(
                f"the same data and noise follow the ODE over one short step only, got max_steps {self.most_steps}; "
                "set max_steps=1 and more levels, or source='self'"
            )
        if self.source == "self" and self.denoising_weight == 0:
            raise ValueError("source 'self' learns its ODE from the denoising term; set denoising_weight above 0")

    def build(
        self, student: Map, teacher: Denoiser | None, discriminator: nn.Module | None = None
    ) -> ConsistencyTrajectory:
        """The objective; it uses no teacher."""
        del teacher
        student = expects(student, FlowMap)
        return ConsistencyTrajectory(student, None, self, discriminator=discriminator)


class OwnDenoiser(Denoiser):
    """The denoiser inside a flow map: its output for a jump of length zero.

    Args:
        flow_map: The map, whose network it shares.
    """

    def __init__(self, flow_map: FlowMap) -> None:
        super().__init__(flow_map.net, flow_map.path, flow_map.sigma_data)
        self.flow_map = flow_map

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: ConditionLike | None = None) -> Tensor:
        r"""Estimate the clean signal, :math:`g(x_t, t, t)`; ``s`` must be left out."""
        assert s is None
        return self.path.denoised_from_velocity(x, self.flow_map.velocity(x, t, t, condition), t)


class ConsistencyTrajectory(Objective):
    r"""Soft consistency along trajectories, and denoising on the diagonal.

    A solver carries :math:`x_t` to :math:`x_u` over a random number of steps of a grid, with :math:`s \le u < t` on
    the same grid. Both ways from ``t`` to ``s`` are compared as clean signals, behind one more jump of a target
    network to the boundary :math:`\epsilon`:

    .. math:: L = E\Big[d\Big(f_{\theta^-}\big(f_\theta(x_t, t, s), s, \epsilon\big),\;
              f_{\theta^-}\big(\mathrm{sg} f_\theta(\mathrm{Solver}(x_t, t \to u), u, s), s, \epsilon\big)\Big)\Big]
              + \lambda\, E\left[\frac{\sigma^2+\sigma_d^2}{(\sigma\sigma_d)^2}\,
              \tfrac1D \lVert g_\theta(x_\sigma, \sigma, \sigma) - x_0 \rVert^2\right] .

    The number of steps is drawn once for a batch, the same on every process. ``balance="adaptive"`` multiplies
    :math:`\lambda` by :math:`\lVert\nabla_w L_1\rVert / \lVert\nabla_w L_2\rVert` with :math:`w` the last weight
    matrix that the network registers. With an adversarial weight above 0 a discriminator separates the first of the
    two signals, :math:`x_\mathrm{est}`, from data; its own loss and the term that it adds to the student's are those of
    :class:`unistep.objectives.adversarial.Adversary`.

    Args:
        student: The flow map.
        teacher: The denoiser to distil; ``None`` trains from data as ``config.source`` says.
        config: Its options.
        metric: A distance to use in place of the configured one, such as LPIPS.
        discriminator: A network ``(x, condition) -> [b]``, for the adversarial term.

    Raises:
        ValueError: If the teacher's path is not the student's, there is a teacher for a configuration without one, or
            an adversarial term has no discriminator.

    References:
        Kim et al. 2024, arXiv 2310.02279, equation 4, soft consistency matching and auxiliary losses; the ratio of
        gradients is that of Esser et al. 2021, arXiv 2012.09841, equation 7.
    """

    student: FlowMap

    def __init__(
        self,
        student: FlowMap,
        teacher: Denoiser | None,
        config: CTMConfig | CTMTrainingConfig,
        metric: Metric | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        if (teacher is None) == isinstance(config, CTMConfig):
            raise ValueError(f"{type(config).__name__} and teacher {teacher} do not go together; see config.build")
        if teacher is not None and teacher.path != student.path:
            raise ValueError(f"the student must be on the teacher's path {teacher.path}, got {student.path}")
        super().__init__(student, config.guided(teacher) if isinstance(config, GuidedTeacherConfig) else None)
        self.config = config
        self.metric = metric or config.distance
        # A copy even with a decay of 0: the gradient must pass through the target to its input and stop there.
        self.target = frozen_copy(student)
        self.adversary = config.adversary(discriminator)

    def param_groups(self) -> list[ParamGroup]:
        """The discriminator, if there is one."""
        return [] if self.adversary is None else [self.adversary.param_group()]

    def solved(
        self, x_t: Tensor, x0: Tensor, noise: Tensor, times: list[Float[Tensor, "b *levels"]], condition: Condition
    ) -> Tensor:
        """The point ``x_u`` at the last of ``times``, which begin at ``t``; without gradient."""
        if isinstance(self.config, CTMTrainingConfig) and self.config.source == "data":
            return self.student.path.perturb(x0, noise, times[-1])
        denoiser = OwnDenoiser(self.target) if self.teacher is None else self.teacher  # type: ignore[arg-type]
        x = x_t
        with torch.no_grad():
            for t, u in itertools.pairwise(times):
                x = STEPS[self.config.solver](denoiser, x, t, u, condition)  # type: ignore[arg-type]
        return x

    def denoising(self, x0: Tensor, condition: Condition, generator: Randomness) -> Float[Tensor, " b"]:
        """The weighted error of the student's own denoiser at noise levels of its own."""
        path, sigma_data = self.student.path, self.student.sigma_data
        sigma = self.config.denoising_times.draw(self.config.level_shape(x0), generator).to(x0)
        t = path.time_at(sigma)
        x_t = path.perturb(x0, randn_like(x0, generator), t)
        estimate = path.denoised_from_velocity(x_t, self.student.velocity(x_t, t, t, condition), t)
        weight = (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()
        return weighted_distance(SquaredL2(), estimate, x0, weight)[0]

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`."""
        config, path = self.config, self.student.path
        sigma_min, sigma_max = (float(path.ratio(x0.new_tensor(t))) for t in (path.t_min, path.t_max))
        levels = karras_grid(config.levels, sigma_min, sigma_max, config.rho).flip(0)
        shape = config.level_shape(x0)
        steps = draw_steps(config.most_steps, config.step_power, generator)
        first = (steps + randint(config.levels - steps, shape, generator)).cpu()
        room = first - steps
        last = (uniform(shape, generator).cpu() * (room + 1)).long().minimum(room)
        times = [path.time_at(levels[first - i].to(x0)) for i in range(steps + 1)]
        t, u, s = times[0], times[-1], path.time_at(levels[last].to(x0))
        noise = randn_like(x0, generator)
        if isinstance(config, GuidedTeacherConfig):
            condition = config.sample_guidance(condition, x0, generator)
        x_t = path.perturb(x0, noise, t)
        x_u = self.solved(x_t, x0, noise, times, condition)
        bridge = self.student if config.bridge == "student" else self.target
        answer, wanted = with_same_dropout(
            lambda: self.target(self.student(x_t, t, s, condition), s, None, condition),
            lambda: self.target(bridge(x_u, u, s, condition), s, None, condition),
            x0.device,
        )
        loss = consistency = self.metric(answer, wanted)
        logs = {"ctm/consistency": loss.detach().mean(), "ctm/solver_steps": x0.new_tensor(float(steps))}
        if config.denoising_weight > 0:
            denoising = self.denoising(x0, condition, generator)
            weight = config.denoising_weight * self.balance(loss, denoising)
            logs |= {"ctm/denoising": denoising.detach().mean(), "ctm/denoising_weight": x0.new_tensor(float(weight))}
            loss = loss + weight * denoising
        if self.adversary is not None:
            both, added = self.adversary.terms(consistency, answer, x0, condition, self.student.net, progress)
            loss, logs = loss + both, logs | added
        return Loss(loss, logs, item_level(path.ratio(t)))

    def balance(self, consistency: Float[Tensor, " b"], denoising: Float[Tensor, " b"]) -> Tensor | float:
        """The factor that balances the gradients of both terms in the last layer; 1 if the weight is fixed."""
        if self.config.balance == "fixed" or not torch.is_grad_enabled():
            return 1.0
        return gradient_ratio(consistency, denoising, self.student.net)

    def after_step(self, progress: float) -> None:
        """Update the target towards the student."""
        del progress
        ema_update(self.target, self.student, self.config.target_ema)


def draw_steps(most: int, power: float, generator: Randomness) -> int:
    """A number of steps from 1 to ``most``, equal for all shares of a batch."""
    if isinstance(generator, ShardGenerator):
        generator = replace(generator, start=0, stop=1, total=1)
    weights = torch.arange(1, most + 1, dtype=torch.float64) ** power
    return 1 + int(multinomial((weights / weights.sum()).float(), 1, generator))
