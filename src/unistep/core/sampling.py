"""Sampling from a consistency model: one step, several steps, and the search for good intermediate times."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import Condition
from unistep.core.flowmap import ConsistencyModel, FlowMap
from unistep.core.path import Path, expand_to
from unistep.core.seeding import Randomness, randn_like
from unistep.core.timesteps import karras_grid

_ROUNDING = 1e-5
"""Times may lie outside their path by this share."""


def trace_multistep(
    consistency: ConsistencyModel,
    noise: Float[Tensor, "b *shape"],
    grid: Float[Tensor, " n"],
    condition: Condition | None = None,
    *,
    generator: Randomness = None,
) -> Iterator[Float[Tensor, "b *shape"]]:
    r"""Alternate jumping to the data and adding noise back, yielding each estimate of the data.

    .. math:: x \leftarrow f(\sigma_{\tau_1} z, \tau_1); \quad
              \hat x_{\tau_n} = \tfrac{\alpha_{\tau_n}}{\alpha_\epsilon} x
              + \sqrt{\sigma_{\tau_n}^2 - (\tfrac{\alpha_{\tau_n}}{\alpha_\epsilon}\sigma_\epsilon)^2}\, z_n, \quad
              x \leftarrow f(\hat x_{\tau_n}, \tau_n)

    with :math:`\epsilon` the boundary: on the variance-exploding path, Algorithm 1 of the paper.

    Args:
        consistency: The model.
        noise: Standard normal noise, shape ``[b, *shape]``.
        grid: Decreasing times, shape ``[n]``, the first usually the path's ``t_max``.
        condition: What the model is told.
        generator: Source of the noise that is added back; unused when ``n`` is 1.

    References:
        Song et al. 2023, arXiv 2303.01469, algorithm 1.
    """
    path = consistency.path
    times = [grid[i].to(noise).expand(len(noise)) for i in range(len(grid))]
    end = torch.full_like(times[0], consistency.boundary)
    x = expand_to(path.sigma(times[0]), noise) * noise
    for i, t in enumerate(times):
        if i > 0:
            keep = expand_to(path.alpha(t) / path.alpha(end), x)
            spread = (expand_to(path.sigma(t), x).square() - (keep * expand_to(path.sigma(end), x)).square()).clamp(
                min=0
            )
            x = keep * x + spread.sqrt() * randn_like(x, generator)
        x = consistency(x, t, None, condition)
        yield x


def sample_multistep(
    consistency: ConsistencyModel,
    noise: Float[Tensor, "b *shape"],
    grid: Float[Tensor, " n"],
    condition: Condition | None = None,
    *,
    generator: Randomness = None,
) -> Float[Tensor, "b *shape"]:
    """The end of :func:`trace_multistep`: samples of the shape of ``noise``."""
    *_, x = trace_multistep(consistency, noise, grid, condition, generator=generator)
    return x


def sample_one_step(
    consistency: ConsistencyModel, noise: Float[Tensor, "b *shape"], condition: Condition | None = None
) -> Float[Tensor, "b *shape"]:
    r"""One jump from noise to data, :math:`x = f(\sigma_T z, T)`."""
    path = consistency.path
    t = noise.new_full((len(noise),), path.t_max)
    return consistency(expand_to(path.sigma(t), noise) * noise, t, None, condition)


def trace_gamma(
    flow_map: FlowMap,
    noise: Float[Tensor, "b *shape"],
    grid: Float[Tensor, " n"],
    condition: Condition | None = None,
    *,
    gamma: float = 0.0,
    generator: Randomness = None,
) -> Iterator[Float[Tensor, "b *shape"]]:
    r"""Jump from time to time with a two-time map, yielding the signal after each jump.

    Each jump but the last aims below the next time, at the noise to signal ratio
    :math:`\tilde\eta = \sqrt{1-\gamma^2}\,\eta_{\tau_{n+1}}`, and noise is added back up to it:

    .. math:: \tilde x = f(x, \tau_n, \tilde\tau), \qquad
              x = \tfrac{\alpha_{\tau_{n+1}}}{\alpha_{\tilde\tau}} \tilde x
              + \sqrt{\sigma_{\tau_{n+1}}^2 - (\tfrac{\alpha_{\tau_{n+1}}}{\alpha_{\tilde\tau}}
              \sigma_{\tilde\tau})^2}\, z

    With ``gamma = 0`` this is deterministic; with ``gamma = 1`` every jump goes to the boundary and it is multistep
    sampling of a consistency model.

    Args:
        flow_map: The model.
        noise: Standard normal noise, shape ``[b, *shape]``.
        grid: Decreasing times, shape ``[n]``, the first usually the path's ``t_max``; ``n`` jumps are made.
        condition: What the model is told.
        gamma: Share of noise that is drawn afresh, in [0, 1].
        generator: Source of that noise.

    References:
        Kim et al. 2024, arXiv 2310.02279, algorithm 3 (gamma-sampling).
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
    path = flow_map.path
    times = [grid[i].to(noise).expand(len(noise)) for i in range(len(grid))]
    end = torch.full_like(times[0], flow_map.boundary)
    x = expand_to(path.sigma(times[0]), noise) * noise
    for t, t_next in itertools.pairwise(times):
        lower = torch.maximum(path.time_at(path.ratio(t_next) * math.sqrt(1 - gamma**2)), end)
        x = flow_map(x, t, lower, condition)
        if gamma > 0:
            keep = expand_to(path.alpha(t_next) / path.alpha(lower), x)
            left = (keep * expand_to(path.sigma(lower), x)).square()
            spread = (expand_to(path.sigma(t_next), x).square() - left).clamp(min=0)
            x = keep * x + spread.sqrt() * randn_like(x, generator)
        yield x
    yield flow_map(x, times[-1], end, condition)


def sample_gamma(
    flow_map: FlowMap,
    noise: Float[Tensor, "b *shape"],
    grid: Float[Tensor, " n"],
    condition: Condition | None = None,
    *,
    gamma: float = 0.0,
    generator: Randomness = None,
) -> Float[Tensor, "b *shape"]:
    """The end of :func:`trace_gamma`: samples of the shape of ``noise``."""
    *_, x = trace_gamma(flow_map, noise, grid, condition, gamma=gamma, generator=generator)
    return x


def search_times(
    score: Callable[[tuple[float, ...]], float],
    steps: int,
    t_max: float,
    t_min: float,
    *,
    levels: int = 64,
    known: Sequence[float] = (),
    on_try: Callable[[tuple[float, ...], float], None] | None = None,
) -> tuple[float, ...]:
    """Find intermediate times one after the other, each by ternary search over a grid of noise levels.

    The score (a Fréchet distance, say) is taken to have one valley between the neighbours of the new time; every
    candidate is remembered, and the best one *measured* is returned, also where the score is not so tidy.

    Args:
        score: Quality of a tuple of decreasing times, lower is better; called with fixed seeds it is deterministic.
        steps: Number of times wanted, the first being ``t_max``.
        t_max: First time.
        t_min: No time is below this one.
        levels: Candidates between ``t_max`` and ``t_min``, spaced as Karras et al. 2022 do.
        known: Intermediate times that are already decided, decreasing.
        on_try: Called with each candidate and its score.

    Returns:
        ``steps`` decreasing times.

    References:
        Song et al. 2023, arXiv 2303.01469, section 3 ("Few-step sampling") and appendix C (greedy ternary search).
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    candidates = karras_grid(levels, t_min, t_max).tolist()
    times = (t_max, *known)
    while len(times) < steps:
        last = times[-1]
        low = 1 + min(range(levels), key=lambda index: abs(math.log(candidates[index] / last)))
        high = levels - (steps - len(times))  # leaves a candidate for each time that is still to come
        if low > high:
            raise ValueError(f"no candidate lies below the time {last:g}; use more levels or fewer steps")
        tried: dict[int, float] = {}

        def measure(index: int, prefix: tuple[float, ...] = times, tried: dict[int, float] = tried) -> float:
            if index not in tried:
                attempt = (*prefix, candidates[index])
                tried[index] = score(attempt)
                if on_try is not None:
                    on_try(attempt, tried[index])
            return tried[index]

        while high - low > 2:
            third = (high - low) // 3
            left, right = low + third, high - third
            if measure(left) < measure(right):
                high = right
            else:
                low = left
        for index in range(low, high + 1):
            measure(index)
        times = (*times, candidates[min(tried, key=lambda index: tried[index])])
    return times[:steps]


def given_times(times: Any, steps: int | None, path: Path, sigma_min_trained: float = 0.0) -> Float[Tensor, " n"]:
    """Sampling times that a person chose, checked.

    Args:
        times: What was given, of whatever type.
        steps: The number of steps, where it was given too.
        path: The path that they lie on.
        sigma_min_trained: Noise level below which the model was not trained.

    Raises:
        ValueError: If they are no decreasing times on the path, one for each step, where the model was trained.
    """
    try:
        values = [float(t) for t in times]
    except (TypeError, ValueError):
        raise ValueError(f"times must be a sequence of numbers, such as (80.0, 2.5), got {times!r}") from None
    if not values:
        raise ValueError("times must hold one time or more, such as (80.0, 2.5)")
    if steps is not None and steps != len(values):
        raise ValueError(f"there are {len(values)} times for {steps} steps; give one time for each step, or no steps")
    shown = ", ".join(f"{t:g}" for t in values)
    # The ends may be those of a grid, which is rounded to float32.
    first = (
        max(path.t_min, float(path.time_at(torch.tensor(sigma_min_trained, dtype=torch.float64))))
        if sigma_min_trained
        else path.t_min
    )
    low, high = first * (1 - _ROUNDING), path.t_max * (1 + _ROUNDING)
    if not all(low <= t <= high for t in values):
        whose = "the path's range" if first == path.t_min else "the range that the model was trained in"
        raise ValueError(f"times must be from {first:g} to {path.t_max:g}, {whose}, got {shown}")
    grid = torch.tensor(values)
    if not (grid.diff() < 0).all():
        raise ValueError(f"times must decrease from step to step, got {shown}")
    return grid
