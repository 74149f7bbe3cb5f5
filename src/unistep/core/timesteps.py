"""Timestep distributions of training, curricula that tighten a gap, and grids for sampling."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unistep.core.seeding import Randomness, multinomial, normal, randint, uniform

_LEAST_PER_STAGE = 50
"""Fewest optimizer steps of a stage, however wide its gap is."""
_WAY = math.log(160.0)
"""The way of the logarithm of the noise from 1/2, where data teaches, to 80, where a sample starts."""


def karras_grid(num: int, t_min: float, t_max: float, rho: float = 7.0) -> Float[Tensor, " num"]:
    r"""Noise levels from ``t_max`` down to ``t_min``, dense near the data.

    .. math:: t_i = \left(t_{\max}^{1/\rho} + \tfrac{i}{N-1}(t_{\min}^{1/\rho} - t_{\max}^{1/\rho})\right)^\rho

    Args:
        num: Number of levels; one gives ``[t_max]``.
        t_min: Last level.
        t_max: First level.
        rho: Density near the data; 1 is uniform.

    Returns:
        Decreasing float32 tensor of shape ``[num]``, computed in float64.

    References:
        Karras et al. 2022, arXiv 2206.00364, equation 5.
    """
    if num < 1:
        raise ValueError(f"a time grid needs at least one level, got {num}")
    if not 0 <= t_min <= t_max < math.inf:
        raise ValueError(f"a time grid needs finite ends with t_min below t_max, got {t_min} and {t_max}")
    if num == 1:
        return torch.tensor([t_max])
    ramp = torch.linspace(0, 1, num, dtype=torch.float64)
    grid = (t_max ** (1 / rho) + ramp * (t_min ** (1 / rho) - t_max ** (1 / rho))) ** rho
    grid[0], grid[-1] = t_max, t_min
    return grid.float()


def _check_log_normal(mean: float, std: float) -> None:
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise ValueError(f"a lognormal law needs a finite mean and a positive std, got {mean} and {std}")


def _check_levels(start: int, end: int, least: int) -> None:
    if not least <= start <= end:
        raise ValueError(f"levels must grow from {least} or more to an end not below that, got {start} to {end}")


def _check_decay(target_ema: float) -> None:
    if not 0 <= target_ema < 1:
        raise ValueError(f"target_ema must be from 0 (no averaged target) to below 1, got {target_ema}")


@dataclass(frozen=True, kw_only=True)
class LogNormal:
    r"""Noise levels with :math:`\ln \sigma \sim N(\mu, s^2)`; EDM trains with (-1.2, 1.2), ECT with (-1.1, 2)."""

    mean: float = -1.2
    """Mean of the log noise level."""
    std: float = 1.2
    """Standard deviation of the log noise level."""

    def __post_init__(self) -> None:
        _check_log_normal(self.mean, self.std)

    def draw(self, shape: int | Sequence[int], generator: Randomness) -> Float[Tensor, "..."]:
        """Independent noise levels of ``shape``: a number of items, or sizes with the batch first."""
        sizes = (shape,) if isinstance(shape, int) else shape
        return (normal(sizes, generator) * self.std + self.mean).exp()


@dataclass(frozen=True, kw_only=True)
class HeavyTailed:
    r"""Log noise levels with a Student t law, cut to a range: dense near the mean, yet never rare far from it.

    .. math:: p(\ln\sigma) \propto \left(1 + \frac{(\ln\sigma - \mu)^2}{\nu s^2}\right)^{-(\nu+1)/2}

    With :math:`\ln\sigma = \mu + s\sqrt\nu \sinh y` the density in :math:`y` is :math:`\cosh^{-\nu} y`, so flat that a
    table of its integral can be inverted to float32 precision, however small :math:`\nu` is.

    References:
        Lee et al. 2024, arXiv 2410.14895, the law of the second stage (there :math:`\mu` = 0, :math:`s` = 0.2 and
        :math:`\nu` = 0.01).
    """

    mean: float = 0.0
    """Mean of the log noise level before the cut."""
    std: float = 0.2
    """Scale of the log noise level."""
    df: float = 0.01
    r"""Degrees of freedom :math:`\nu`: small is a heavy tail, infinity would be a lognormal law."""

    def __post_init__(self) -> None:
        if not (self.std > 0 and 0 < self.df < math.inf):
            raise ValueError(f"std must be positive and df positive and finite, got {self.std} and {self.df}")

    def draw(self, shape: int | Sequence[int], low: float, high: float, generator: Randomness) -> Float[Tensor, "..."]:
        """Independent noise levels from ``low`` to ``high``, of ``shape`` as in :meth:`LogNormal.draw`."""
        if not 0 < low < high < math.inf:
            raise ValueError(f"noise levels need a finite positive range, got {low} to {high}")
        share = uniform(shape, generator)
        y, below = (table.to(share.device) for table in _student_t_table(self, low, high))
        right = torch.searchsorted(below, share, right=True).clamp(1, len(y) - 1)
        left = right - 1
        y = y[left] + (share - below[left]) / (below[right] - below[left]) * (y[right] - y[left])
        return (self.mean + self.std * math.sqrt(self.df) * y.sinh()).exp().clamp(low, high)


@functools.lru_cache(maxsize=16)
def _student_t_table(law: HeavyTailed, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Points ``y`` of a Student t law from ``low`` to ``high``, and the share of its mass below each."""
    first, last = (math.asinh((math.log(end) - law.mean) / (law.std * math.sqrt(law.df))) for end in (low, high))
    y = torch.linspace(first, last, 4097, dtype=torch.float64)
    log_density = -law.df * torch.logaddexp(y, -y)
    density = (log_density - log_density.max()).exp()
    below = torch.cat([density.new_zeros(1), torch.cumulative_trapezoid(density)])
    return y.float(), (below / below[-1]).float()


@dataclass(frozen=True, kw_only=True)
class DiscretisedLogNormal:
    r"""A lognormal law over the intervals of a grid, from iCT.

    .. math:: p(\sigma_i) \propto \mathrm{erf}\!\left(\frac{\ln\sigma_{i+1} - \mu}{\sqrt2 s}\right)
              - \mathrm{erf}\!\left(\frac{\ln\sigma_i - \mu}{\sqrt2 s}\right)

    References:
        Song & Dhariwal 2023, arXiv 2310.14189, equation 10 (there :math:`\mu` = -1.1 and :math:`s` = 2).
    """

    mean: float = -1.1
    """Mean of the log noise level."""
    std: float = 2.0
    """Standard deviation of the log noise level."""

    def __post_init__(self) -> None:
        _check_log_normal(self.mean, self.std)

    def probabilities(self, levels: Float[Tensor, " n"]) -> Float[Tensor, " n_minus_1"]:
        """Probability of each interval of ``levels`` (increasing, shape ``[n]``), shape ``[n - 1]``."""
        edges = torch.erf((levels.double().log() - self.mean) / (math.sqrt(2) * self.std))
        mass = edges[1:] - edges[:-1]
        return (mass / mass.sum()).float()

    def draw(
        self, shape: int | Sequence[int], levels: Float[Tensor, " n"], generator: Randomness
    ) -> Int[Tensor, "..."]:
        """Indices ``i`` of the intervals ``[levels[i], levels[i + 1]]``, of ``shape`` as in :meth:`LogNormal.draw`."""
        return multinomial(self.probabilities(levels), shape, generator)


@dataclass(frozen=True, kw_only=True)
class UniformIndex:
    """Every interval of the grid equally often, as the first consistency models did."""

    def draw(
        self, shape: int | Sequence[int], levels: Float[Tensor, " n"], generator: Randomness
    ) -> Int[Tensor, "..."]:
        """Indices of the intervals of ``levels`` (shape ``[n]``), of ``shape`` as in :meth:`LogNormal.draw`."""
        return randint(len(levels) - 1, shape, generator)


@dataclass(frozen=True, kw_only=True)
class SqrtCurriculum:
    r"""CT's number of levels, growing with the square root of progress.

    .. math:: N(k) = \left\lceil \sqrt{\tfrac{k}{K}((s_1+1)^2 - s_0^2) + s_0^2} - 1 \right\rceil + 1

    References:
        Song et al. 2023, arXiv 2303.01469, appendix C ("Schedule Functions for Consistency Training").
    """

    steps_per_setting: ClassVar[int] = 10
    """Fewest optimizer steps for each setting, as the levels grow one by one."""
    shortened_by: ClassVar[str] = "end"
    """The option that makes fewer settings."""

    start: int = 2
    """:math:`s_0`, the number of levels at the start."""
    end: int = 150
    """:math:`s_1`; the last step has ``end + 1`` levels."""
    target_ema: float = 0.9
    r""":math:`\mu_0`, the decay of the target network at the start; 0 makes the target the student itself."""

    def __post_init__(self) -> None:
        _check_levels(self.start, self.end, 2)
        _check_decay(self.target_ema)

    @property
    def settings(self) -> int:
        """How many different numbers of levels there are along training."""
        return self.end - self.start + 2

    def levels(self, progress: float) -> int:
        """Number of noise levels at ``progress`` in [0, 1]."""
        square = progress * ((self.end + 1) ** 2 - self.start**2) + self.start**2
        # A progress that is a quotient of integers may miss an exact square by rounding; ceil must not see that.
        return math.ceil(round(math.sqrt(square) - 1, 9)) + 1

    def target_decay(self, progress: float) -> float:
        r"""Decay of the target network, :math:`\mu(k) = \exp(s_0 \ln\mu_0 / N(k))`."""
        return self.target_ema ** (self.start / self.levels(progress))


@dataclass(frozen=True, kw_only=True)
class DoublingCurriculum:
    r"""iCT's number of levels, doubled at equal intervals; the target is the student itself.

    .. math:: N(k) = \min(s_0 2^{\lfloor k/K' \rfloor}, s_1) + 1, \quad
              K' = K / (\log_2\lfloor s_1/s_0 \rfloor + 1)

    The paper rounds :math:`K'` down to whole steps; here training is measured by its progress, which has none.

    References:
        Song & Dhariwal 2023, arXiv 2310.14189, equation 8 and section 3.4.
    """

    steps_per_setting: ClassVar[int] = 100
    """Fewest optimizer steps for each setting. The gap halves at least: the shipped one-step model had 600 steps for
    each, the papers 25,000 and more."""
    shortened_by: ClassVar[str] = "end"
    """The option that makes fewer settings."""

    start: int = 10
    """:math:`s_0`."""
    end: int = 1280
    """:math:`s_1`."""

    def __post_init__(self) -> None:
        _check_levels(self.start, self.end, 1)

    @property
    def settings(self) -> int:
        """How many different numbers of levels there are along training."""
        return math.ceil(math.log2(self.end // self.start)) + 1

    def levels(self, progress: float) -> int:
        """Number of noise levels at ``progress`` in [0, 1]."""
        stages = math.log2(self.end // self.start) + 1
        return min(self.start * 2 ** math.floor(progress * stages + 1e-9), self.end) + 1

    def target_decay(self, progress: float) -> float:
        """Zero: the target is the student without gradient."""
        del progress
        return 0.0


@dataclass(frozen=True, kw_only=True)
class ConstantLevels:
    """The same number of levels throughout, as in consistency distillation."""

    num: int = 18
    """Number of noise levels."""
    target_ema: float = 0.0
    """Decay of the target network; 0 makes the target the student without gradient."""

    def __post_init__(self) -> None:
        _check_levels(self.num, self.num, 2)
        _check_decay(self.target_ema)

    def levels(self, progress: float) -> int:
        """Number of noise levels, whatever the progress."""
        del progress
        return self.num

    def target_decay(self, progress: float) -> float:
        """Decay of the target network, whatever the progress."""
        del progress
        return self.target_ema


@dataclass(frozen=True, kw_only=True)
class RatioCurriculum:
    r"""ECT's mapping from a noise level ``t`` to the closer one ``r`` that the target is taken from.

    .. math:: \frac{r}{t} = 1 - \frac{n(t)}{q^{\,a+1}}, \quad n(t) = 1 + k\,\mathrm{sigmoid}(-bt), \quad r \ge 0

    where the stage ``a`` counts up during training. With ``r = 0`` the target is the data: training starts as
    denoising and ends near the limit ``r -> t``. With an anchor :math:`\tau` it stays the data, :math:`r = 0`, at noise
    levels :math:`t < \tau / q^a`.

    References:
        Geng et al. 2024, arXiv 2406.14548, equation 13 and section 3.2.
    """

    shortened_by: ClassVar[str] = "stages"
    """The option that makes fewer settings."""

    q: float = 2.0
    """Factor by which the gap shrinks at each stage."""
    k: float = 8.0
    """How much wider the gap is at small noise."""
    b: float = 1.0
    """How fast that widening fades with the noise level."""
    stages: int = 8
    """Number of stages, at equal intervals of progress; the last is ``stages - 1``."""
    anchor: float = 0.0
    """Noise level below which targets stay the data, divided by ``q`` at each stage; 0 is the paper's. All other
    targets are what the model itself says, whose errors at small noise reach all others."""

    def __post_init__(self) -> None:
        if not 1 < self.q < math.inf or self.stages < 1:
            raise ValueError(f"q must be above 1 and stages at least 1, got {self.q} and {self.stages}")
        if not 0 <= self.anchor < math.inf:
            raise ValueError(f"anchor must be a noise level, 0 (none) or more, got {self.anchor}")
        if not (-1 < self.k < math.inf and math.isfinite(self.b)):
            raise ValueError(f"k must be above -1, so that gaps stay open, and b finite, got {self.k} and {self.b}")
        # Beyond this the two levels agree in float32 and the inverse of their gap is infinite.
        if self.stages > 20 / math.log2(self.q):  # by its logarithm, as the power may be too large for a float
            raise ValueError(f"q**stages must be at most 2**20, got {self.q}**{self.stages}; take fewer stages")

    @property
    def settings(self) -> int:
        """How many different gaps there are along training."""
        return self.stages

    @property
    def steps_per_setting(self) -> int:
        r"""Fewest optimizer steps for each stage, for the narrowest gap :math:`q^{-s}`.

        What the data teaches at a noise level of 1/2 is handed on from target to target, at most one in a step, and
        from there to a level of 80 there are :math:`\ln 160 / q^{-s} \approx 5 q^s` of them. In much fewer steps a
        stage takes its targets from what the noise has not learned yet, and undoes the stages before it. 60 steps for
        81 targets were enough and 109 for 325 were not (the log of experiments): at least half as many are asked for.
        """
        return max(_LEAST_PER_STAGE, math.ceil(_WAY * self.q**self.stages / 2))

    @property
    def least_steps(self) -> int:
        """Fewest optimizer steps for all stages."""
        return self.stages * self.steps_per_setting

    def suited_to(self, steps: int) -> RatioCurriculum:
        """With as many of the stages, at least one, as have enough of so many optimizer steps."""
        fewer = (replace(self, stages=n) for n in range(self.stages, 1, -1))
        return next((shorter for shorter in fewer if steps >= shorter.least_steps), replace(self, stages=1))

    def stage(self, progress: float) -> int:
        """The stage at ``progress`` in [0, 1]."""
        return min(math.floor(progress * self.stages + 1e-9), self.stages - 1)

    def closer(self, t: Float[Tensor, "*levels"], progress: float) -> Float[Tensor, "*levels"]:
        """The level ``r < t`` for each noise level ``t``, of any shape."""
        narrowed = self.q ** self.stage(progress)
        gap = (1 + self.k * torch.sigmoid(-self.b * t)) / (self.q * narrowed)
        return torch.where(t < self.anchor / narrowed, 0.0, (t * (1 - gap)).clamp(min=0))
