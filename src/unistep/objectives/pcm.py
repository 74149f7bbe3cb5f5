"""Multi-phase consistency: a few deterministic jumps, each over its own phase of the noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.core.condition import Condition, drop, select
from unistep.core.flowmap import Denoiser, FlowMap, Map
from unistep.core.path import Path, expand_to
from unistep.core.seeding import Randomness, randn_like
from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.objectives.adversarial import AdversarialMethodConfig
from unistep.objectives.base import Loss, Objective, ParamGroup, expects, item_level, with_same_dropout
from unistep.objectives.distance import Distance, Metric, PseudoHuber, weighted_distance
from unistep.objectives.guidance import GuidedTeacherConfig
from unistep.objectives.partial import call_where, is_compiled
from unistep.objectives.targets import TargetSource, target_point, validate_teacher


@dataclass(frozen=True, kw_only=True)
class PCMConfig(AdversarialMethodConfig, GuidedTeacherConfig):
    """Train a few-step model that jumps from one end of a phase to the other, on data or along a teacher's ODE."""

    trains = FlowMap
    starts_from_teacher = True
    papers = ("wang2024phased", "heek2024multistep", "geng2024easy")
    supports_level_axes = True

    phases: int = 4
    """Number of phases, which is the number of sampling steps."""
    middle: float | None = None
    r"""Noise level of the middle: the angle :math:`\arctan(\sigma/\mathrm{middle})` is divided evenly. By default it
    is the model's standard deviation of the data; the large shapes of images survive more noise, and need about 3."""
    edges: tuple[float, ...] = ()
    """Noise levels between the phases, decreasing, in place of the even ones."""
    times: LogNormal = LogNormal(mean=-1.1, std=2.0)
    """Distribution of the noise level."""
    curriculum: RatioCurriculum = RatioCurriculum()
    """How the target level approaches the noisier one during training."""
    distance: Distance = PseudoHuber(c=0.0)
    """Distance between the two predictions."""
    weighting: Literal["inverse_gap", "one"] = "inverse_gap"
    r""":math:`1/(t-r)` in noise levels, or none."""
    target: TargetSource = "data"
    """Where the target point comes from: the same data and noise, or a step of the teacher's ODE."""
    label_dropout: float = 0.0
    """Share of examples trained without their condition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.phases < 1:
            raise ValueError(f"phases must be at least 1, got {self.phases}")
        if self.middle is not None and not 0 < self.middle < math.inf:
            raise ValueError(f"middle must be a positive noise level, got {self.middle}")
        if self.edges and len(self.edges) != self.phases - 1:
            raise ValueError(f"{self.phases} phases have {self.phases - 1} edges between them, got {self.edges}")
        if any(not 0 < edge < math.inf for edge in self.edges) or any(a <= b for a, b in pairwise(self.edges)):
            raise ValueError(f"edges must be decreasing positive noise levels, got {self.edges}")

    def inner_edges(self, sigma_data: float) -> tuple[float, ...]:
        """Decreasing noise levels between the phases."""
        middle = sigma_data if self.middle is None else self.middle
        even = (middle * math.tan(math.pi / 2 * k / self.phases) for k in range(self.phases - 1, 0, -1))
        return self.edges or tuple(even)

    def grid(self, path: Path, sigma_data: float) -> tuple[float, ...]:
        """One time for each phase; jumps that end between edges are not trained."""
        return phase_times(self, path, sigma_data)

    def build(
        self, student: Map, teacher: Denoiser | None, discriminator: nn.Module | None = None
    ) -> PhasedConsistency:
        """The objective, on data or along the ODE of the teacher."""
        student = expects(student, FlowMap)
        return PhasedConsistency(student, teacher, self, discriminator=discriminator)


def phase_times(config: PCMConfig, path: Path, sigma_data: float = 0.5) -> tuple[float, ...]:
    """Upper edges of the phases as decreasing times of ``path``: the grid on which such a model is sampled.

    Args:
        config: The phases.
        path: The model's path.
        sigma_data: The model's standard deviation of the data.

    Returns:
        ``config.phases`` times, the first the path's ``t_max``.
    """
    inner = torch.tensor(config.inner_edges(sigma_data), dtype=torch.float64)
    return (path.t_max, *path.time_at(inner).tolist())


@final
class PhasedConsistency(Objective):
    r"""Consistency of ``t`` and a target time ``r`` in the same phase, at the lower edge ``s`` of that phase.

    .. math:: E\left[w(t, r)\, d\big(f_\theta(x_t, t, s),\; \mathrm{sg} f_\theta(x_r, r, s)\big)\right], \quad
              s = \max\{s_k : s_k < t\}, \quad s \le r < t, \quad f(x_s, s, s) = x_s

    The phase determines ``s``, so the network does not need it: one network time is enough, and it can start from the
    weights of a denoiser. Training starts with ``r = s``, which on data is denoising, and ends near the limit
    ``r -> t``. With one phase it is consistency tuning.

    Sample with :func:`unistep.core.sampling.sample_gamma`, ``gamma = 0``, on the grid :func:`phase_times`: one
    deterministic jump for each phase. Jumps that end between edges are not trained.

    With an adversarial weight above 0 a discriminator compares the predictions :math:`f_\theta(x_t, t, s)` with the
    targets :math:`f_\theta(x_r, r, s)`, as adversarial consistency does: both lie at the same edge. The discriminator
    does not know which edge, and no noise is added to the points for it.

    Args:
        student: The flow map, with or without a second time, starting from a denoiser's weights.
        teacher: The denoiser, needed only if ``config.target`` is not ``data``.
        config: Its options.
        metric: A distance to use in place of the configured one, such as LPIPS.
        discriminator: A network ``(x, condition) -> [b]``, for the adversarial term.

    Raises:
        ValueError: If the target is the teacher's and there is no teacher or it is on another path, if an edge is
            outside the student's noise levels, or if an adversarial term has no discriminator.

    References:
        Wang et al. 2024, arXiv 2405.18407, the phased consistency function and its distillation; Heek et al. 2024,
        arXiv 2403.06807, algorithm 1 (on data or from a teacher, phases even in the angle). The ratio of r to t and the
        weight are those of Geng et al. 2024, arXiv 2406.14548, equation 13 and section 3.
    """

    student: FlowMap

    def __init__(
        self,
        student: FlowMap,
        teacher: Denoiser | None,
        config: PCMConfig,
        metric: Metric | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__(student, validate_teacher(config.target, config.guided(teacher), student.path))
        self.config = config
        self.metric = metric or config.distance
        self.adversary = config.adversary(discriminator)
        ends = torch.tensor([student.boundary, student.path.t_max], dtype=torch.float64)
        bottom, top = student.path.ratio(ends).tolist()
        inner = config.inner_edges(student.sigma_data)
        if inner and not bottom < inner[-1] <= inner[0] < top:
            raise ValueError(f"edges must lie between the noise levels {bottom:g} and {top:g}, got {inner}")
        self.lower_edges = (bottom, *reversed(inner))

    def param_groups(self) -> list[ParamGroup]:
        """The discriminator, if there is one."""
        return [] if self.adversary is None else [self.adversary.param_group()]

    def lower_edge(self, sigma: Float[Tensor, "b *levels"]) -> Float[Tensor, "b *levels"]:
        """Noise level at which the phase of each level ends; an edge itself belongs to the phase below it."""
        edges = sigma.new_tensor(self.lower_edges)
        return edges[torch.searchsorted(edges[1:], sigma)]

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`."""
        config, path = self.config, self.student.path
        # Below the lowest edge there is nothing to learn; such a level is moved to just above it.
        sigma = config.times.draw(config.level_shape(x0), generator).to(x0).clamp(min=1.01 * self.lower_edges[0])
        edge = self.lower_edge(sigma)
        closer = torch.maximum(config.curriculum.closer(sigma, progress), edge)
        noise = randn_like(x0, generator)
        condition = drop(config.sample_guidance(condition, x0, generator), config.label_dropout, generator)
        t, r, s = path.time_at(sigma), path.time_at(closer), path.time_at(edge)
        x_t = path.perturb(x0, noise, t)
        x_r = target_point(config.target, self.teacher, path, x_t, x0, noise, t, r, condition)  # type: ignore[arg-type]
        # At the edge the jump has length zero and returns the point itself; the network is called at a trained time.
        inside = closer > edge
        asked = torch.where(inside, r, t)

        def inner(rows: Tensor) -> Tensor:
            return self.student(x_r[rows], asked[rows], s[rows], select(condition, rows))

        answer, jumped = with_same_dropout(
            lambda: self.student(x_t, t, s, condition),
            lambda: self.student(x_r, asked, s, condition),
            x0.device,
            None if is_compiled(self.student) else lambda: call_where(inside, inner, x_r),
        )
        wanted = torch.where(expand_to(inside, x0), jumped, x_r)
        weight = 1 / (sigma - closer) if config.weighting == "inverse_gap" else torch.ones_like(sigma)
        loss, distance = weighted_distance(self.metric, answer, wanted, weight)
        logs = {
            "pcm/distance": distance.detach().mean(),
            "pcm/stage": x0.new_tensor(float(config.curriculum.stage(progress))),
            "pcm/at_edge": (~inside).float().mean(),
        }
        if self.adversary is not None:
            both, adversarial_logs = self.adversary.terms(loss, answer, wanted, condition, self.student.net, progress)
            loss, logs = loss + both, logs | adversarial_logs
        return Loss(loss, logs, item_level(sigma))
