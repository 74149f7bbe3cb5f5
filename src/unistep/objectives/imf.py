"""Improved MeanFlow: a regression on the instantaneous velocity, re-parametrised by the average one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unistep.core.condition import GUIDANCE, Condition, labels, null_condition
from unistep.core.flowmap import Denoiser, FlowMap, Map
from unistep.objectives.base import expects
from unistep.objectives.guidance import weights
from unistep.objectives.meanflow import FromData, FromDataConfig
from unistep.objectives.time_pairs import LogitNormalPairs, TimePairs


@dataclass(frozen=True, kw_only=True)
class IMFConfig(FromDataConfig):
    r"""Learn the average velocity from data alone, following the student's own trajectory.

    The paper's guidance with a fixed weight :math:`w` is ``TargetGuidance(omega=1, kappa=1 - 1 / w)``. Its guidance as
    an input of the network is ``guidance_range``, in the paper 1 to 8 with density :math:`1/w`; its interval of guided
    times is fixed here, by the ``start`` and ``end`` of ``guidance``, rather than an input as well.
    """

    papers = ("geng2025improved", "geng2025meanflow")

    times: TimePairs = LogitNormalPairs(distinct=0.5)
    """Distribution of the two times; half of the examples train the velocity at ``r = t``."""
    guidance_power: float = 1.0
    r""":math:`p` in the density :math:`w^{-p}` of the trained weights: 0 is uniform, 1 the paper's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guidance_range is not None and self.guidance_range[0] < 1:
            raise ValueError(f"guidance_range of improved MeanFlow begins at 1 or above, got {self.guidance_range}")

    def build(self, student: Map, teacher: Denoiser | None) -> ImprovedMeanFlow:
        """The objective; it uses no teacher."""
        del teacher
        student = expects(student, FlowMap)
        return ImprovedMeanFlow(student, self)


class ImprovedMeanFlow(FromData):
    r"""The v-loss of a function of the noisy point alone.

    .. math:: V_\theta(z_t) = u_\theta(z_t, t, r) + (t - r)\, \mathrm{sg}\!\left(
              \partial_z u_\theta \cdot u_\theta(z_t, t, t) + \partial_t u_\theta\right), \qquad
              L = \frac{\lVert \Delta \rVert_2^2}{\mathrm{sg}(\lVert \Delta \rVert_2^2 + \epsilon)^p}, \quad
              \Delta = V_\theta(z_t) - v

    MeanFlow follows the velocity ``v`` of one pair in the derivative; its target therefore depends on data that the
    network does not see, and its noise is multiplied by the network's Jacobian. Here the network's own
    :math:`u_\theta(z, t, t)` takes its place, at the cost of one more network call (without gradient). At the exact map
    the expected :math:`\lVert \Delta \rVert_2^2` is the variance of ``v`` given :math:`z_t`, as in flow matching; the
    weight is MeanFlow's.

    References:
        Geng et al. 2025, arXiv 2512.02012, MeanFlow as a v-loss, with the velocity from the boundary
        condition :math:`v_\theta = u_\theta(z, t, t)` rather than from an auxiliary head.
    """

    def mixture(self, v: Tensor, condition: Condition) -> tuple[Tensor | float, Tensor | float]:
        r""":math:`\omega = 1` and :math:`\kappa = 1 - 1/w` for a weight :math:`w` of each example's own."""
        if GUIDANCE not in condition:
            return super().mixture(v, condition)
        return 1.0, 1 - 1 / weights(condition, 1.0, v)

    def velocities(
        self, x0: Tensor, noise: Tensor, z: Tensor, t: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """The velocity of the pair, with guidance if configured, and the student's own."""
        v = self.student.path.velocity(x0, noise, t)
        if not (self.config.guides and labels(condition)):
            return v, self.instantaneous(z, t, condition)[0]
        unconditional, conditional = self.instantaneous(z, t, null_condition(condition), condition)
        return self.guided(v, t, condition, unconditional, conditional), conditional
