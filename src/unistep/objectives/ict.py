"""Improved consistency training: from data alone, without an averaged target, on ever finer noise levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from unistep.core.flowmap import ConsistencyModel, Denoiser, Map
from unistep.core.timesteps import DiscretisedLogNormal, DoublingCurriculum
from unistep.objectives.base import ObjectiveConfig, expects
from unistep.objectives.ct import ConsistencyTraining, CTConfig
from unistep.objectives.distance import Metric, PseudoHuber


@dataclass(frozen=True, kw_only=True)
class ICTConfig(ObjectiveConfig):
    """Train a consistency model from data alone, with the improved schedules, distribution, distance and weights."""

    trains = ConsistencyModel
    starts_from_teacher = False
    papers = ("song2023improved",)
    supports_level_axes = True

    curriculum: DoublingCurriculum = DoublingCurriculum()
    """Number of noise levels along training; it reaches its end at any length of training."""
    law: DiscretisedLogNormal = DiscretisedLogNormal()
    """Distribution of the trained pair of levels."""
    distance: PseudoHuber = PseudoHuber()
    """Distance between the two predictions."""
    rho: float = 7.0
    """Density of the levels near the data."""
    label_dropout: float = 0.0
    """Share of examples trained without their condition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rho > 0:
            raise ValueError(f"rho must be positive, got {self.rho}; 7 is usual, 1 spaces the levels evenly")

    def parts(self) -> CTConfig:
        """The same method as a choice of the parts of consistency training."""
        return CTConfig(
            curriculum=self.curriculum,
            law=self.law,
            distance=self.distance,
            weighting="inverse_gap",
            rho=self.rho,
            label_dropout=self.label_dropout,
            level_axes=self.level_axes,
        )

    def build(self, student: Map, teacher: Denoiser | None) -> ImprovedConsistencyTraining:
        """The objective; it uses no teacher."""
        del teacher
        student = expects(student, ConsistencyModel)
        return ImprovedConsistencyTraining(student, self)


@final
class ImprovedConsistencyTraining(ConsistencyTraining):
    r"""Consistency of neighbouring noise levels, weighted by the inverse of their gap, with a norm as the distance.

    .. math:: E\left[\frac{1}{\sigma_{i+1} - \sigma_i} \Big(\sqrt{\lVert f_\theta(x_0 + \sigma_{i+1} z, \sigma_{i+1})
              - \mathrm{sg} f_\theta(x_0 + \sigma_i z, \sigma_i)\rVert_2^2 + c^2} - c\Big)\right]

    The pair :math:`i` has a lognormal distribution, the number of levels doubles at equal intervals up to
    :math:`s_1 + 1`, and the target is the student itself without gradient, under the same dropout mask: an averaged
    target would bias the limit of many levels.

    Args:
        student: The consistency model, with the path's ``t_min`` as its boundary.
        config: Its options.
        metric: A distance to use in place of the configured one, such as LPIPS.

    References:
        Song & Dhariwal 2023, arXiv 2310.14189, section 3 and table 1.
    """

    def __init__(self, student: ConsistencyModel, config: ICTConfig, metric: Metric | None = None) -> None:
        super().__init__(student, config.parts(), metric)
