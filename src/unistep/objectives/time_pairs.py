"""Distributions of pairs of times: where a jump starts, and where it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.path import Path
from unistep.core.seeding import Randomness, normal, uniform
from unistep.spelling import check_choices


def _check_share(distinct: float) -> None:
    if not 0 <= distinct <= 1:
        raise ValueError(f"distinct is a share of the examples, from 0 to 1, got {distinct}")


@dataclass(frozen=True, kw_only=True)
class LogitNormalPairs:
    r"""Two times of the straight path, :math:`\mathrm{logit}\,t \sim N(\mu_t, s_t^2)` and the same for ``r``.

    On the straight path the logit is the log noise to signal ratio, :math:`t/(1-t) = \sigma_t/\alpha_t`: this is a
    lognormal distribution of noise levels, which serves any path. The defaults are those of the authors' CIFAR-10
    model; the paper's for ImageNet are ``mean=-0.4, std=1, mean_r=-0.4, std_r=1, order="swap", distinct=0.25``.

    References:
        Geng et al. 2025, arXiv 2505.13447, section 4.3 and tables 1a and 1d.
    """

    mean: float = -0.6
    """Mean of the logit of ``t``."""
    std: float = 1.6
    """Standard deviation of the logit of ``t``."""
    mean_r: float = -4.0
    """Mean of the logit of ``r``."""
    std_r: float = 1.6
    """Standard deviation of the logit of ``r``."""
    order: Literal["swap", "cut"] = "cut"
    """What makes ``r`` the smaller one: exchanging the two, or taking ``t`` for an ``r`` above it."""
    distinct: float = 0.75
    """Share of examples with an ``r`` of their own; the others have ``r = t``."""

    def __post_init__(self) -> None:
        _check_share(self.distinct)
        if not (self.std >= 0 and self.std_r >= 0):
            raise ValueError(f"std and std_r must not be negative, got {self.std} and {self.std_r}")
        check_choices(self)

    def draw(
        self, shape: int | Sequence[int], generator: Randomness
    ) -> tuple[Float[Tensor, "*levels"], Float[Tensor, "*levels"]]:
        """Noise to signal ratios of ``t`` and of ``r``, which is not larger.

        Args:
            shape: Shape of each: a number of items, or sizes with the batch first.
            generator: Source of randomness.
        """
        num, *rest = (shape,) if isinstance(shape, int) else shape
        first, second = normal((num, 2, *rest), generator).unbind(dim=1)
        t, r = (first * self.std + self.mean).exp(), (second * self.std_r + self.mean_r).exp()
        if self.order == "swap":
            t, r = torch.maximum(t, r), torch.minimum(t, r)
        return t, torch.where(uniform(shape, generator) < self.distinct, torch.minimum(t, r), t)


@dataclass(frozen=True, kw_only=True)
class UniformPairs:
    """Two independent times of the straight path, uniform in [0, 1], the larger being ``t``.

    References:
        Geng et al. 2025, arXiv 2505.13447, table 1d.
    """

    distinct: float = 0.75
    """Share of examples with an ``r`` of their own; the others have ``r = t``."""

    def __post_init__(self) -> None:
        _check_share(self.distinct)

    def draw(
        self, shape: int | Sequence[int], generator: Randomness
    ) -> tuple[Float[Tensor, "*levels"], Float[Tensor, "*levels"]]:
        """Noise to signal ratios of ``t`` and of ``r``, which is not larger.

        Args:
            shape: Shape of each: a number of items, or sizes with the batch first.
            generator: Source of randomness.
        """
        first, second = (u / (1 - u) for u in (uniform(shape, generator), uniform(shape, generator)))
        t, r = torch.maximum(first, second), torch.minimum(first, second)
        return t, torch.where(uniform(shape, generator) < self.distinct, r, t)


TimePairs = LogitNormalPairs | UniformPairs
"""The distributions of pairs that a configuration can name."""


def pair_on_path(
    path: Path, boundary: float, ratio_t: Float[Tensor, "*levels"], ratio_r: Float[Tensor, "*levels"]
) -> tuple[Float[Tensor, "*levels"], Float[Tensor, "*levels"]]:
    """The times of a path at which it has these noise to signal ratios, between the ends that sampling uses.

    Times beyond ``t_max`` become ``t_max``. An ``r`` closer to the data than the path's ``t_min`` becomes the
    boundary: the jump to it is the one that a sample ends with, and a distribution that only
    came close to it would never train it.

    Args:
        path: The path.
        boundary: Where the map's last jump ends.
        ratio_t: Noise to signal ratios of ``t``, of any shape.
        ratio_r: Those of ``r``; where they are equal, so are the times.

    Returns:
        ``t`` and ``r``, of that shape.
    """
    floor = max(path.t_min, boundary)
    if not floor < path.t_max < math.inf:
        raise ValueError(f"the boundary must lie below the path's largest time {path.t_max}, got {boundary}")
    t = path.time_at(ratio_t).clamp(floor, path.t_max)
    r = path.time_at(ratio_r).clamp(max=path.t_max)
    r = torch.where(r <= floor, boundary, r)
    return t, torch.where(ratio_r == ratio_t, t, r)
