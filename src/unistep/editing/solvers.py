r"""Restoring signals from what is known of them with a trained model, in any number of calls and without training.

All solvers are multistep sampling (:func:`unistep.core.sampling.trace_multistep`) whose estimates of the signal are
corrected by what is known of it, through the sampler's hook ``project``. With the noise levels
:math:`\eta_1 > \dots > \eta_N`, beginning at a first guess :math:`x`,

.. math:: \hat x = x + \eta_n z_n, \qquad x' = f(\hat x, \eta_n), \qquad x = x' + \lambda_n A^\dagger (y - A x') .

``replacement`` has :math:`\lambda_n = 1` and fresh noise :math:`z_n`: Algorithm 4 of Song et al. for any operator,
as :math:`(I - A^\dagger A) x' + A^\dagger y` replaces the known coefficients. ``back-projection`` mixes fresh and
estimated noise, lets the model assume more noise than there is, and weighs what is known by its noise. ``mixture``
begins at the mean of the signals given what is known under a mixture of Gaussians, and moves estimates along its
principal axes before :math:`A^\dagger` (:mod:`unistep.editing.mixture_constraint`).

References:
    Song et al. 2023, arXiv 2303.01469, algorithm 4; Garber & Tirer 2025, arXiv 2412.20596, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import ConditionLike
from unistep.core.flowmap import AnyMap
from unistep.core.path import Path, expand_to
from unistep.core.sampling import trace_multistep
from unistep.core.seeding import Randomness
from unistep.editing.constraints import Constraint

Solver = Literal["back-projection", "replacement", "mixture"]
"""The solvers by name."""


class Coder(Protocol):
    """What lies between signals and what a model sees: a codec, or one chunk of a stream's."""

    def encode(self, signal: Tensor) -> Tensor:
        """Signals as the model sees them."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Its inverse."""
        ...


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The few parameters of a solver; a search on held-out data finds them for a task."""

    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "first": (1e-3, 1e4), "last": (1e-3, 1e4), "estimated": (-1.0, 1.0), "excess": (-0.9, 10.0),
        "trust": (0.0, 1e3),
    }  # fmt: skip

    first: float = 8.0
    """Highest noise level, in units of the data's standard deviation, or of the noise that is to be removed."""
    last: float = 0.5
    """Lowest noise level; those between are spaced geometrically."""
    estimated: float = 0.0
    """Share of estimated noise, from -1 to 1."""
    excess: float = 0.0
    """How much more noise the model assumes than there is."""
    trust: float = 1.0
    """How uncertain the model's estimates are taken to be beside what is known with noise, as a factor."""
    shortest: bool = False
    """Whether estimates move towards what is known by the shortest way, as in the replacement, rather than by that
    which suits the measurement."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: Naming the one that is out of range.
        """
        for name, (low, high) in self.LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value}")

    def plain(self) -> Settings:
        """Those of the replacement: fresh noise, no excess, and the shortest way."""
        return replace(self, estimated=0.0, excess=0.0, shortest=True)

    def levels(self, steps: int) -> list[float]:
        """The relative noise levels of so many steps, decreasing."""
        last = min(self.last, self.first * (1 - 1e-3))
        ratio = (last / self.first) ** (1 / max(1, steps - 1))
        return [self.first * ratio**n for n in range(steps)]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is to be done with a batch of signals."""

    start: Tensor | None = None
    """Signals to begin from, ``[b, *signal_shape]``; those of the constraint, or pure noise, without."""
    constraint: Constraint | None = None
    """What is known of the result."""
    noise: Tensor | None = None
    """Standard deviation of the noise that each item of ``start`` has already, ``[b]``, which is taken into account."""
    shown: Tensor | None = None
    """What stands for the inputs in a picture of before and after; what it begins from without."""
    relative: bool = False
    """Whether noise levels are relative to that noise rather than to the data's standard deviation."""

    def select(self, rows: slice) -> Problem:
        """Some of the items."""
        return replace(
            self,
            start=None if self.start is None else self.start[rows],
            shown=None if self.shown is None else self.shown[rows],
            constraint=None if self.constraint is None else self.constraint.select(rows),
            noise=None if self.noise is None else self.noise[rows],
        )

    def to(self, device: torch.device) -> Problem:
        """On a device."""
        return replace(
            self,
            start=None if self.start is None else self.start.to(device),
            constraint=None if self.constraint is None else self.constraint.to(device),
            noise=None if self.noise is None else self.noise.to(device),
        )

    @property
    def beginning(self) -> Tensor | None:
        """The signals to begin from, wherever they come from."""
        if self.start is not None or self.constraint is None:
            return self.start
        return self.constraint.start


def times_of_levels(path: Path, levels: list[Tensor], sigma_min_trained: float = 0.0) -> list[Tensor]:
    """Times of noise to signal ratios, within the path and where the model was trained; any shapes."""
    low = path.ratio(torch.tensor([path.t_min], dtype=torch.float64)).item()
    high = min(path.ratio(torch.tensor([path.t_max], dtype=torch.float64)).item(), 1e4)
    least = max(low, sigma_min_trained)
    return [path.time_at(level.double().clamp(least, high)).clamp(path.t_min, path.t_max).float() for level in levels]


def trace_edit(
    model: AnyMap,
    codec: Coder,
    problem: Problem,
    noise: Float[Tensor, "b *shape"],
    steps: int,
    settings: Settings,
    condition: ConditionLike | None = None,
    *,
    sigma_data: float = 0.5,
    sigma_min_trained: float = 0.0,
    generator: Randomness = None,
) -> Iterator[Float[Tensor, "b *signal"]]:
    """Solve a problem, yielding the signals after each call of the model.

    Args:
        model: A consistency model, a flow map, or a denoiser.
        codec: What lies between the signals and what the model sees; corrections are made to signals.
        problem: What is to be done.
        noise: Standard normal noise of the shape that the model sees.
        steps: Calls of the model.
        settings: Parameters.
        condition: Fields of the batch.
        sigma_data: Standard deviation of the data as the model sees it.
        sigma_min_trained: Noise level below which the model was not trained.
        generator: Source of the noise of the later steps.
    """
    path, beginning, constraint = model.path, problem.beginning, problem.constraint
    start = None if beginning is None else codec.encode(beginning)
    spread = as_seen(codec, beginning, problem.noise, noise)
    unit = (
        spread.clamp(min=1e-6)
        if problem.relative and problem.noise is not None
        else torch.full_like(spread, sigma_data)
    )
    times = times_of_levels(path, [level * unit for level in settings.levels(steps)], sigma_min_trained)
    if problem.noise is not None:  # the noise that the signals have is part of that of the first time
        kept = (1 - (spread / path.ratio(times[0])).square()).clamp(min=0).sqrt()
        noise = noise * expand_to(kept, noise)
    seen = gain = torch.zeros_like(spread)
    if constraint is not None and constraint.sigma.any():
        seen, gain = as_seen(codec, constraint.start, constraint.sigma, noise), constraint.gain.to(spread)

    def project(x0: Tensor, t: Tensor) -> Tensor:
        if constraint is None:
            return x0
        with torch.autocast(x0.device.type, enabled=False):
            signal, level = codec.decode(x0.float()), path.ratio(t)
            weight = expand_to(trusted(level, sigma_data, seen * gain, settings.trust), signal)
            if settings.shortest:
                return codec.encode(constraint.correct(signal, weight))
            return codec.encode(constraint.guide(signal, weight, level))

    trace = trace_multistep(
        model, noise, times, condition,
        generator=generator, start=start, project=project, estimated=settings.estimated, excess=settings.excess,
    )  # fmt: skip
    for x0 in trace:
        yield codec.decode(x0.float())


def as_seen(codec: Coder, signal: Tensor | None, sigma: Tensor | None, like: Tensor) -> Float[Tensor, " b"]:
    """The standard deviation that noise on signals has in what the model sees of each, by the same noise for all.

    Args:
        codec: What lies between.
        signal: Signals, ``[b, *signal_shape]``.
        sigma: Standard deviation of the noise on each, ``[b]``; ``None`` for none.
        like: A tensor of ``b`` items.
    """
    if signal is None or sigma is None:
        return like.new_zeros(len(like))
    noise = torch.randn(signal.shape[1:], generator=torch.Generator().manual_seed(0)).to(signal)
    return (
        (codec.encode(signal + expand_to(sigma, signal) * noise) - codec.encode(signal))
        .flatten(1)
        .square()
        .mean(dim=1)
        .sqrt()
    )


def trusted(
    level: Float[Tensor, " b"], sigma_data: float, noise: Float[Tensor, " b"], trust: float = 1.0
) -> Float[Tensor, " b"]:
    r"""The weight of what is known, :math:`\lambda = \kappa^2 r^2 / (\kappa^2 r^2 + \sigma_y^2)`.

    :math:`r^2 = \eta^2\sigma_d^2/(\eta^2 + \sigma_d^2)` is the variance of Gaussian data given its noisy self, for
    which the weight is optimal with :math:`\kappa = 1`; without noise on what is known it is 1.

    Args:
        level: Noise to signal ratios :math:`\eta` of the estimates.
        sigma_data: Standard deviation of the data.
        noise: That of what is known, undone, :math:`\sigma_y`.
        trust: :math:`\kappa`.
    """
    variance = trust**2 * level.square() * sigma_data**2 / (level.square() + sigma_data**2)
    return torch.where(noise == 0, 1.0, variance / (variance + noise.square()).clamp(min=1e-20))
