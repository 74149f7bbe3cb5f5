"""Guidance without a second network call: a student with the guidance weight as a condition, and its guided teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unistep.core.condition import GUIDANCE, AnyField, Condition, Scalar, ScalarField
from unistep.core.flowmap import AnyDenoiser, Denoiser, GuidedDenoiser, guidance_weight
from unistep.core.seeding import Randomness, uniform
from unistep.objectives.base import ObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class GuidanceRangeConfig(ObjectiveConfig):
    r"""A student for a range of guidance weights, with the condition ``guidance``.

    Each example draws a weight :math:`w` of its own with a density proportional to :math:`w^{-p}` on
    :math:`[w_\min, w_\max]`: uniform for :math:`p = 0`, uniform in :math:`\ln w` for 1. Classifier-free guidance of a
    teacher takes two network calls at every step; the student that has learned its result for each weight takes one.

    References:
        Meng et al. 2022, arXiv 2210.03142, section 3.1 and algorithm 1 (even weights); Luo et al. 2023,
        arXiv 2310.04378, section 4.2, for consistency models; Geng et al. 2025, arXiv 2512.02012, for the power law.
    """

    guidance_range: tuple[float, float] | None = None
    """Smallest and largest guidance weight, such as 1 4, of a student that takes the weight as a condition; the
    weight of ``guidance`` is then the default."""
    guidance_power: float = 0.0
    r""":math:`p` in the density :math:`w^{-p}` of the trained weights: 0 is uniform, 1 prefers small weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.guidance_power < math.inf:
            raise ValueError(f"guidance_power must be 0 or more, got {self.guidance_power}")
        if self.guidance_range is None:
            return
        low, high = self.guidance_range
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"guidance_range must be two numbers, the smaller one first, got {low:g} and {high:g}")
        if self.guidance_power > 0 and not low > 0:
            raise ValueError(f"guidance_power above 0 needs a guidance_range above 0, got {low:g} to {high:g}")
        if self.usual_weight != 1 and not low <= self.usual_weight <= high:
            raise ValueError(
                f"guidance {self.usual_weight:g} must lie in guidance_range {low:g} to {high:g}, as it is the weight "
                "that a student has where none is given"
            )

    @property
    def usual_weight(self) -> float:
        """The one weight without a range, and the default weight with one; 1 is no guidance."""
        return 1.0

    def conditions(self) -> dict[str, AnyField]:
        """The weight, if there is a range; its default is ``guidance``, clamped to the range."""
        if self.guidance_range is None:
            return {}
        low, high = self.guidance_range
        return {GUIDANCE: ScalarField(low=low, high=high, default=min(max(self.usual_weight, low), high))}

    def sample_guidance(self, condition: Condition, x0: Tensor, generator: Randomness) -> Condition:
        """The condition with a weight for each example; unchanged without a range, or if it has weights.

        Args:
            condition: Fields of shape ``[b]``, before any are dropped.
            x0: The batch, for its size, its device and its type.
            generator: Source of randomness.
        """
        if self.guidance_range is None or GUIDANCE in condition:
            return condition
        (low, high), power = self.guidance_range, self.guidance_power
        share = uniform(len(x0), generator).to(x0)
        if power == 0:
            weight = low + (high - low) * share
        elif power == 1:
            weight = low * (high / low) ** share
        else:
            ends = low ** (1 - power), high ** (1 - power)
            weight = (ends[0] + (ends[1] - ends[0]) * share) ** (1 / (1 - power))
        return {**condition, GUIDANCE: Scalar(weight.clamp(low, high))}


@dataclass(frozen=True, kw_only=True)
class GuidedTeacherConfig(GuidanceRangeConfig):
    """Options of the methods that follow a teacher's ODE."""

    guidance: float = 1.0
    """Guidance weight of the teacher, if there is one; the student needs none at sampling time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be a finite number, got {self.guidance}")
        if getattr(self, "target", None) == "data" and (self.guidance_range is not None or self.guidance != 1):
            what = f"guidance {self.guidance:g}" if self.guidance_range is None else "guidance_range"
            raise ValueError(
                f"{what} needs a teacher to guide, and target 'data' asks none; set another target"
                + (", or guidance 1" if self.guidance_range is None else "")
            )

    @property
    def usual_weight(self) -> float:
        """The teacher's weight."""
        return self.guidance

    def guided(self, teacher: Denoiser | None) -> AnyDenoiser | None:
        """The guided teacher, with each example's own weight if there is a range; ``None`` without a teacher."""
        if teacher is None or (self.guidance == 1 and self.guidance_range is None):
            return teacher
        return GuidedDenoiser(teacher, self.guidance)


def weights(condition: Condition, otherwise: float, like: Tensor) -> Tensor:
    """The guidance weight of each example, shape ``[b, 1, ...]`` of ``like``; 1 for those without one.

    Args:
        condition: Fields of shape ``[b]``.
        otherwise: The weight of all if the condition has no field for it.
        like: A batch, for the shape, the device and the type.
    """
    value = condition.get(GUIDANCE)
    weight = torch.full((len(like),), otherwise) if value is None else guidance_weight(value)
    return weight.to(like).view(-1, *[1] * (like.ndim - 1))
