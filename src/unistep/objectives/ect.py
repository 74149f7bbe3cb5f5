"""Easy Consistency Tuning: from a pretrained denoiser to a one-step model by tightening a ratio of noise levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import Condition, drop
from unistep.core.flowmap import ConsistencyModel, Denoiser, Map
from unistep.core.seeding import Randomness, randn_like
from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.objectives.base import Loss, Objective, ObjectiveConfig, expects, item_level, with_same_dropout
from unistep.objectives.distance import Distance, Metric, PseudoHuber, weighted_distance
from unistep.objectives.guidance import GuidedTeacherConfig
from unistep.objectives.pairing import Pairing, paired
from unistep.objectives.reuse import KeptAnswers, draw_of
from unistep.objectives.targets import TargetSource, target_point, target_prediction, validate_teacher


@dataclass(frozen=True, kw_only=True)
class ECTConfig(GuidedTeacherConfig):
    """Tune a pretrained denoiser into a one-step model, on data or along the teacher's ODE."""

    trains = ConsistencyModel
    starts_from_teacher = True
    papers = ("geng2024easy",)
    supports_level_axes = True

    times: LogNormal = LogNormal(mean=-1.1, std=2.0)
    """Distribution of the noise level."""
    curriculum: RatioCurriculum = RatioCurriculum()
    """How the target level approaches the noisier one during training."""
    distance: Distance = PseudoHuber(c=0.0)
    """Distance between the two predictions."""
    weighting: Literal["inverse_gap", "snr_plus_k", "one"] = "inverse_gap"
    r"""ECT's :math:`1/(t-r)` (CIFAR-10), :math:`1/t^2 + 1/\sigma_d^2` (ImageNet), or none."""
    target: TargetSource = "data"
    """Where the target point comes from: the same data and noise, or a step of the teacher's ODE."""
    label_dropout: float = 0.0
    """Share of examples trained without their condition."""
    pairing: Pairing = "independent"
    """Which noise goes with which data within a batch."""
    teacher_reuse: int = 1
    """How many steps use each answer of the teacher, with the same data, noise and times; with target euler. A guided
    teacher takes a third of a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher_reuse < 1:
            raise ValueError(f"teacher_reuse must be at least 1, got {self.teacher_reuse}")
        if self.teacher_reuse > 1 and self.target != "euler":
            raise ValueError(
                f"teacher_reuse {self.teacher_reuse} keeps answers that only the target 'euler' asks for, not "
                f"{self.target!r}; set teacher_reuse 1"
            )

    def build(self, student: Map, teacher: Denoiser | None) -> EasyConsistencyTuning:
        """The objective, on data or along the ODE of the teacher."""
        student = expects(student, ConsistencyModel)
        return EasyConsistencyTuning(student, teacher, self)

    fewest_steps: ClassVar[int] = 300
    """Optimizer steps below which a student is rough, whatever its curriculum."""

    @property
    def least_steps(self) -> int:
        """Those of the curriculum, and those that any student needs."""
        return max(super().least_steps, self.fewest_steps)

    def suited_to(self, steps: int) -> tuple[ECTConfig, str]:
        """With so many stages that each has the steps which its gap needs."""
        wanted, suited = self.curriculum, self.curriculum.suited_to(steps)
        reason = f"{suited.stages} of {wanted.stages} stages; all of them want {wanted.least_steps:,} steps"
        return replace(self, curriculum=suited), "" if suited == wanted else reason

    def without_teacher(self) -> ECTConfig:
        """Targets from the data, with one gap from the start, that of the last stage but one: the student is consistent
        already, and the last and narrowest gap is mostly noise.
        """
        last = max(self.curriculum.stages - 1, 1)
        curriculum = replace(self.curriculum, q=self.curriculum.q**last, stages=1)
        return replace(self, target="data", teacher_reuse=1, guidance=1.0, guidance_range=None, curriculum=curriculum)


class EasyConsistencyTuning(Objective):
    r"""Consistency of ``t`` and a target time ``r`` whose ratio tends to one; no averaged target.

    .. math:: E\left[w(t, r)\, d\big(f_\theta(x_t, t),\; \mathrm{sg} f_\theta(x_r, r)\big)\right], \quad f(x_0, 0) = x_0

    Args:
        student: The consistency model, with boundary 0 and starting from a denoiser's weights.
        teacher: The denoiser, needed only if ``config.target`` is not ``data``.
        config: Its options.
        metric: A distance to use in place of the configured one, such as LPIPS.

    Raises:
        ValueError: If the target is the teacher's and there is no teacher, or it is on another path.

    References:
        Geng et al. 2024, arXiv 2406.14548, algorithm 1 and section 3.
    """

    student: ConsistencyModel

    def __init__(
        self,
        student: ConsistencyModel,
        teacher: Denoiser | None,
        config: ECTConfig,
        metric: Metric | None = None,
    ) -> None:
        super().__init__(student, validate_teacher(config.target, config.guided(teacher), student.path))
        self.config = config
        self.metric = metric or config.distance
        self._kept = KeptAnswers()

    def adopt(self, config: ObjectiveConfig) -> None:
        assert isinstance(config, ECTConfig)
        self.config = config

    def draw(self, step: int) -> int:
        """The step's own draw, or that of an earlier step whose answers of the teacher are used again."""
        return draw_of(step, self.config.teacher_reuse)

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`."""
        config, path = self.config, self.student.path
        sigma = config.times.draw(config.level_shape(x0), generator).to(x0)
        closer = config.curriculum.closer(sigma, progress)
        noise = paired(randn_like(x0, generator), x0, condition, config.pairing)
        condition = drop(config.sample_guidance(condition, x0, generator), config.label_dropout, generator)
        t, r = path.time_at(sigma), path.time_at(closer)
        x_t = path.perturb(x0, noise, t)
        known = None if config.teacher_reuse == 1 else self._kept(generator, lambda: self._estimate(x_t, t, condition))
        x_r = target_point(config.target, self.teacher, path, x_t, x0, noise, t, r, condition, known)  # type: ignore[arg-type]
        answer, wanted = with_same_dropout(
            lambda: self.student(x_t, t, None, condition),
            lambda: self.student(x_r, r, None, condition),
            x0.device,
            target_prediction(self.student, x_r, r, condition),
        )
        gap = sigma - closer
        weight = {
            "inverse_gap": 1 / gap,
            "snr_plus_k": 1 / sigma.square() + 1 / self.student.sigma_data**2,
            "one": torch.ones_like(gap),
        }[config.weighting]
        loss, distance = weighted_distance(self.metric, answer, wanted, weight)
        logs = {
            "ect/distance": distance.detach().mean(),
            "ect/stage": x0.new_tensor(float(config.curriculum.stage(progress))),
            "ect/ratio": (closer / sigma).mean(),
        }
        return Loss(loss, logs, item_level(sigma))

    @torch.no_grad()
    def _estimate(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The teacher's estimates for all items: whichever are not needed now may be in another stage."""
        assert self.teacher is not None
        return self.teacher(x_t, t, None, condition)
