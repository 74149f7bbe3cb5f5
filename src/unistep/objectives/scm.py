"""Continuous-time consistency models, sCM: the limit in which the two compared points coincide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.core.condition import Condition, drop
from unistep.core.flowmap import ConsistencyModel, Denoiser, Map, c_noise
from unistep.core.path import TrigFlow, expand_to, match_snr
from unistep.core.seeding import Randomness, randn_like
from unistep.core.timesteps import LogNormal
from unistep.objectives.base import Loss, Objective, expects, item_level
from unistep.objectives.distance import SquaredL2, weighted_distance
from unistep.objectives.guidance import GuidedTeacherConfig
from unistep.objectives.tangent import TangentMethod, value_and_tangent

WARMUP_STEPS = 100
"""Fewest optimizer steps of the warm-up of the tangent."""


@dataclass(frozen=True, kw_only=True)
class SCMConfig(GuidedTeacherConfig):
    """Tune a denoiser's weights into a one-step model without time steps: sCT on data, sCD along a teacher's ODE."""

    trains = ConsistencyModel
    starts_from_teacher = True
    follows_tangent = True
    most_plain_steps = 10_000  # double normalisation prevents an instability of long training (section 4.1)
    papers = ("lu2024continuous",)
    supports_level_axes = True

    times: LogNormal = LogNormal(mean=-1.0, std=1.4)
    r"""Distribution of :math:`e^\tau = \sigma_d \tan t`; the paper's for CIFAR-10, and (-1, 1.6) for ImageNet."""
    target: Literal["data", "teacher"] = "data"
    """Where the velocity comes from: the pair of data and noise (sCT) or the teacher (sCD)."""
    warmup: float = 0.1
    """Share of the training in which the tangent's second half grows to its full size. The paper's 10 000 steps are
    0.025 of its 400 000 on CIFAR-10, and 0.1 of its 100 000 on ImageNet-512."""
    normalisation: Literal["norm", "clip", "none"] = "norm"
    r"""Of the tangent: :math:`g/(\lVert g\rVert + c)`, a clip of every component to [-1, 1], or none."""
    c: float = 0.1
    """The constant of ``norm``."""
    adaptive: bool = True
    r"""Whether to learn the weight :math:`w_\phi(t)`; without, it is 0."""
    derivative: TangentMethod = "exact"
    """Forward-mode differentiation, or a central difference for networks that cannot do it."""
    step: float = 1e-3
    r"""Length of the ``finite`` difference, in units of :math:`\cos t \sin t` of time."""
    label_dropout: float = 0.0
    """Share of examples trained without their condition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.step > 0:
            raise ValueError(f"step must be positive, got {self.step}; 0.001 is usual")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of the training, 0 to 1, got {self.warmup}")
        if not self.c > 0:
            raise ValueError(f"c must be positive, got {self.c}; the paper's is 0.1")

    def budget_warnings(self, steps: int) -> list[str]:
        """The tangent's warm-up needs some steps."""
        found, warmup = super().budget_warnings(steps), self.warmup * steps
        if self.warmup > 0 and warmup < WARMUP_STEPS:
            found.append(
                f"the tangent's warm-up takes {warmup:.0f} steps and needs about {WARMUP_STEPS} (the paper has "
                "10,000); take more steps or a larger --objective.warmup"
            )
        return found

    def build(self, student: Map, teacher: Denoiser | None) -> ContinuousConsistency:
        """The objective, on data or along the ODE of the teacher."""
        student = expects(student, ConsistencyModel)
        return ContinuousConsistency(student, teacher, self)


class AdaptiveWeight(nn.Module):
    r"""The learned log weight :math:`w_\phi(t)` of a noise level, 0 before training.

    A linear map of sines and cosines of :math:`c_\mathrm{noise}`. Minimising :math:`e^{w} L - w` over
    :math:`w` makes it :math:`-\ln L`: every noise level then has equal weight.

    References:
        Karras et al. 2024, arXiv 2312.02696, section 2.2 and equation 15 (there ``u = -w``).
    """

    frequencies: Tensor

    def __init__(self, features: int = 8) -> None:
        super().__init__()
        self.register_buffer("frequencies", 0.5 * 2 ** torch.linspace(0, 4, features), persistent=False)
        self.out = nn.Linear(2 * features, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, code: Float[Tensor, "b *levels"]) -> Float[Tensor, "b *levels"]:
        r"""Log weights for values of :math:`c_\mathrm{noise}`, of their shape, in float32."""
        angles = code.to(self.frequencies)[..., None] * self.frequencies
        features = torch.cat([angles.cos(), angles.sin()], dim=-1)
        with torch.autocast(code.device.type, enabled=False):
            return self.out(features).sum(dim=-1)  # of one number each; a view would be at odds with FSDP2's hooks


class ContinuousConsistency(Objective):
    r"""The derivative of the student along the trajectory is driven to zero.

    On TrigFlow :math:`x_t = \cos t\, x_0 + \sigma_d \sin t\, z`, and the map with boundary 0 is
    :math:`f = \cos t\, x_t + \sigma_d \sin t\, F(x_t/\sigma_d, c_\mathrm{noise})`; the paper's network is :math:`-F`.
    With the velocity :math:`\dot x` of the pair or of the teacher,

    .. math::
       g &= \cos t\,\frac{\mathrm{d}f}{\mathrm{d}t} = \cos^2 t\,(\sigma_d F^- + \dot x)
            - r\left(\cos t \sin t\, x_t - \sigma_d \cos t \sin t\,\frac{\mathrm{d}F^-}{\mathrm{d}t}\right), \\
       L &= \frac{e^{w_\phi(t)}}{D}\left\lVert F - F^- + \frac{g}{\lVert g\rVert + c}\right\rVert^2 - w_\phi(t),

    where :math:`\cdot^-` has no gradient. The gradient of :math:`\lVert f_\theta(x_t) - f_{\theta^-}(x_s)\rVert^2` for
    :math:`s \to t` with the prior weight :math:`w(t) = 1/(\sigma_d \tan t)` is :math:`w \sigma_d \sin t = \cos t` times
    that of :math:`F^\top \mathrm{d}f/\mathrm{d}t`: the weight is the :math:`\cos t` in :math:`g`, and occurs nowhere
    else. The first part of :math:`g` alone (:math:`r = 0`) trains a denoiser; :math:`r` grows to 1.

    The tangent is computed along :math:`(\cos t\sin t\,\dot x, \cos t\sin t)`, so that :math:`g` needs no division. Our
    network gets :math:`c_\mathrm{noise} = \frac14\ln(\sigma_d\tan t)` rather than the paper's :math:`t`; its
    derivative :math:`1/(4\sin t\cos t)` has a pole at either end, which that factor cancels: it changes at the
    rate 1/4 at every noise level (and at 0 beyond the ends of ``LOG_RATIO_RANGE``, where it is constant).

    Args:
        student: The consistency model, on TrigFlow with boundary 0, and starting from a denoiser's weights.
        teacher: The denoiser on any path, needed only if ``config.target`` is ``teacher``.
        config: Its options.

    Raises:
        ValueError: If the student is not of that kind, or the teacher is missing.

    References:
        Lu & Song 2024, arXiv 2410.11081, algorithm 1, sections 4.2 and 4.3.
    """

    student: ConsistencyModel

    def __init__(self, student: ConsistencyModel, teacher: Denoiser | None, config: SCMConfig) -> None:
        path = student.path
        if not isinstance(path, TrigFlow) or path.sigma_data != student.sigma_data or student.boundary != 0:
            raise ValueError(
                "continuous-time consistency needs a student on the path TrigFlow, with its sigma_data and boundary 0, "
                f"got {path}, sigma_data {student.sigma_data} and boundary {student.boundary}"
            )
        if config.target == "teacher" and teacher is None:
            raise ValueError("target 'teacher' needs a teacher; give one, or use target 'data'")
        super().__init__(student, None if config.target == "data" else config.guided(teacher))
        self.config = config
        self.weight = AdaptiveWeight() if config.adaptive else None

    @torch.no_grad()
    def velocity(self, x_t: Tensor, x0: Tensor, noise: Tensor, t: Tensor, condition: Condition) -> Tensor:
        r"""The velocity :math:`\dot x` at ``x_t``: of the pair, or the teacher's on the student's path."""
        path = self.student.path
        if self.teacher is None:
            return path.velocity(x0, noise, t)
        x, time = match_snr(x_t, t, path, self.teacher.path)  # type: ignore[arg-type]
        return path.velocity_from_denoised(x_t, self.teacher(x, time, None, condition), t)

    @torch.no_grad()
    def tangent(self, out: Tensor, d_out: Tensor, x_t: Tensor, velocity: Tensor, t: Tensor, r: float) -> Tensor:
        r"""The tangent :math:`g` before normalisation; ``d_out`` is :math:`\cos t \sin t\,\mathrm{d}F/\mathrm{d}t`."""
        cos, sin, sigma_data = expand_to(t.cos(), x_t), expand_to(t.sin(), x_t), self.student.sigma_data
        return cos.square() * (sigma_data * out + velocity) - r * (cos * sin * x_t - sigma_data * d_out)

    @torch.no_grad()
    def normalised(self, g: Tensor) -> Tensor:
        """The tangent in bounds, by the configured rule."""
        if self.config.normalisation == "clip":
            return g.clamp(-1, 1)
        if self.config.normalisation == "none":
            return g
        return g / expand_to(g.flatten(1).norm(dim=1) + self.config.c, g)

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`."""
        config, path = self.config, self.student.path
        t = path.time_at(config.times.draw(config.level_shape(x0), generator).to(x0))
        noise = randn_like(x0, generator)
        condition = drop(config.sample_guidance(condition, x0, generator), config.label_dropout, generator)
        x_t = path.perturb(x0, noise, t)
        velocity = self.velocity(x_t, x0, noise, t, condition)
        rate = t.cos() * t.sin()
        out, d_out = value_and_tangent(
            lambda x, u: self.student.precondition(x, u, None, condition)[0],
            (x_t, t),
            (expand_to(rate, x0) * velocity, rate),
            method=config.derivative,
            step=config.step,
        )
        r = min(1.0, progress / config.warmup) if config.warmup else 1.0
        g = self.tangent(out, d_out, x_t, velocity, t, r)
        # In value the difference is g alone; F enters for its gradient.
        difference = out - out.detach() + self.normalised(g)
        logs = {
            "scm/tangent": g.square().flatten(1).mean(dim=1).sqrt().mean(),
            "scm/warmup": x0.new_tensor(r),
        }
        level = item_level(path.ratio(t))
        if self.weight is None:
            return Loss(SquaredL2()(difference, torch.zeros_like(difference)), logs, level)
        w = self.weight(c_noise(path, t))
        loss, _ = weighted_distance(SquaredL2(), difference, torch.zeros_like(difference), w.exp())
        logs["scm/weight"] = w.detach().mean()
        return Loss(loss - (w if w.ndim == 1 else w.flatten(1).mean(dim=1)), logs, level)
