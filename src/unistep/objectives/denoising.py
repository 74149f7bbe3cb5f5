"""EDM's denoising objective: how a teacher is trained."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import Condition, drop
from unistep.core.flowmap import Denoiser, Map
from unistep.core.seeding import Randomness, randn_like
from unistep.core.timesteps import LogNormal
from unistep.objectives.base import Loss, Objective, ObjectiveConfig, expects, item_level
from unistep.objectives.distance import SquaredL2, weighted_distance
from unistep.objectives.pairing import Pairing, paired


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig(ObjectiveConfig):
    """Train a denoiser, the teacher of distillation and the start of tuning."""

    trains = Denoiser
    starts_from_teacher = False
    papers = ("karras2022edm",)
    supports_level_axes = True

    times: LogNormal = LogNormal(mean=-1.2, std=1.2)
    """Distribution of the noise level."""
    label_dropout: float = 0.1
    """Share of examples that are trained without their condition, for guidance."""
    pairing: Pairing = "independent"
    """Which noise goes with which data within a batch."""

    def build(self, student: Map, teacher: Denoiser | None) -> Denoising:
        """The objective; it uses no teacher."""
        del teacher
        student = expects(student, Denoiser)
        return Denoising(student, self)


class Denoising(Objective):
    r"""Weighted denoising at a random noise level.

    .. math:: E_{\sigma, x_0, z} \left[ \frac{\sigma^2+\sigma_d^2}{(\sigma\sigma_d)^2}\,
              \tfrac1D \lVert D(x_t, t) - x_0 \rVert^2 \right]

    Args:
        student: The denoiser.
        config: Its options.

    References:
        Karras et al. 2022, arXiv 2206.00364, equation 8 and table 1.
    """

    student: Denoiser

    def __init__(self, student: Denoiser, config: DenoisingConfig) -> None:
        super().__init__(student)
        self.config = config

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`."""
        del progress
        path, sigma_data = self.student.path, self.student.sigma_data
        sigma = self.config.times.draw(self.config.level_shape(x0), generator).to(x0)
        noise = paired(randn_like(x0, generator), x0, condition, self.config.pairing)
        t = path.time_at(sigma)
        condition = drop(condition, self.config.label_dropout, generator)
        estimate = self.student(path.perturb(x0, noise, t), t, None, condition)
        weight = (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()
        loss, mean_square = weighted_distance(SquaredL2(), estimate, x0, weight)
        return Loss(loss, {"denoising/mean_square": mean_square.detach().mean()}, item_level(sigma))
