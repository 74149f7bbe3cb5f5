"""Improved MeanFlow: a regression on the instantaneous velocity, re-parametrised by the average one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unistep.condition import Condition, without
from unistep.flowmap import Denoiser, FlowMap, Map
from unistep.objectives.meanflow import FromData, FromDataConfig
from unistep.objectives.time_pairs import LogitNormalPairs, TimePairs


@dataclass(frozen=True, kw_only=True)
class ImprovedMeanFlowConfig(FromDataConfig):
    r"""Learn the average velocity from data alone, following the student's own trajectory.

    The paper's guidance with a fixed weight :math:`w` is ``TargetGuidance(omega=1, kappa=1 - 1 / w)``; its
    guidance as an input of the network is not offered, since a condition is made of integers here.
    """

    papers = ("geng2025improved", "geng2025meanflow")

    times: TimePairs = LogitNormalPairs(distinct=0.5)
    """Law of the two times; half of the examples train the velocity at ``r = t``."""

    def build(self, student: Map, teacher: Denoiser | None) -> ImprovedMeanFlow:
        """The objective; it asks no teacher."""
        del teacher
        assert isinstance(student, FlowMap)
        return ImprovedMeanFlow(student, self)


class ImprovedMeanFlow(FromData):
    r"""The v-loss of a function of the noisy point alone.

    .. math:: V_\theta(z_t) = u_\theta(z_t, t, r) + (t - r)\, \mathrm{sg}\!\left(
              \partial_z u_\theta \cdot u_\theta(z_t, t, t) + \partial_t u_\theta\right), \qquad
              L = \lVert V_\theta(z_t) - v \rVert_2^2

    MeanFlow follows the velocity ``v`` of one pair in the derivative; its target therefore depends on what the network
    is not told, and its noise is multiplied by the network's Jacobian. Here the network's own :math:`u_\theta(z, t, t)`
    takes its place, for one network call more (without gradient). At the exact map the loss is the variance of
    ``v`` given :math:`z_t`, as in flow matching.

    References:
        Geng et al. 2025, arXiv 2512.02012, MeanFlow as a v-loss, with the velocity from the boundary
        condition :math:`v_\theta = u_\theta(z, t, t)` rather than from an auxiliary head.
    """

    def velocities(
        self, x0: Tensor, noise: Tensor, z: Tensor, t: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """The velocity of the pair, guided where that is asked for, and the student's own."""
        v = self.student.path.velocity(x0, noise, t)
        if not (self.config.guidance.active and condition):
            return v, self.instantaneous(z, t, condition)[0]
        untold, told = self.instantaneous(z, t, without(condition), condition)
        return self.guided(v, t, condition, untold, told), told
