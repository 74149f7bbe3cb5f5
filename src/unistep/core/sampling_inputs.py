"""What every sampler takes: the times of its steps, and a signal to begin from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.path import Path, expand_to

Times = Tensor | Sequence[float | Tensor]
"""Times of a sampler, one for each step: numbers, or tensors of shape ``[b]`` or that broadcast against the signal. A
tensor holds one step along its first axis, so that ``[n]`` is a number for each step."""

Project = Callable[[Tensor, Tensor], Tensor]
"""``project(x0, t) -> like x0``: changes an estimate of the clean signal that was made at the times ``t``."""

_ROUNDING = 1e-5
"""Times may lie outside their path by this share."""


def times_of(times: Times, noise: Float[Tensor, "b *shape"]) -> list[Tensor]:
    """The times of each step as tensors of the device and type of ``noise``, shape ``[b]`` or broadcasting against it.

    Raises:
        ValueError: If there are none, or one is neither a number nor of such a shape.
    """
    if isinstance(times, Tensor) and times.ndim == 1 and len(times):  # the usual case, at once
        return list(times.to(noise)[:, None].expand(-1, noise.shape[0]).unbind())
    found = []
    for given in times:
        try:
            t = given.to(noise) if isinstance(given, Tensor) else noise.new_tensor(float(given))
        except (TypeError, ValueError):
            raise ValueError(f"times must be numbers or tensors, such as [80.0, 2.5], got {given!r}") from None
        t = t.expand(len(noise)) if t.ndim == 0 else t
        if len(t) != len(noise):
            raise ValueError(f"times must have one entry for each of the {len(noise)} items, got {len(t)}")
        expand_to(t, noise)
        found.append(t)
    if not found:
        raise ValueError("times must hold one time or more, such as [80.0, 2.5]")
    return found


def first_point(
    path: Path, noise: Float[Tensor, "b *shape"], t: Float[Tensor, "b *levels"], start: Tensor | None
) -> Float[Tensor, "b *shape"]:
    r"""Where a sampler begins: :math:`\sigma_t z`, or :math:`\alpha_t x_0 + \sigma_t z` from a clean signal.

    Args:
        path: The path of the times.
        noise: Standard normal noise.
        t: The first times.
        start: The clean signal, shape of ``noise``; ``None`` for pure noise.

    Raises:
        ValueError: If the signal has another shape.

    References:
        Meng et al. 2022, arXiv 2108.01073, algorithm 1, for the start from a signal.
    """
    if start is None:
        return expand_to(path.sigma(t), noise) * noise
    if start.shape != noise.shape:
        raise ValueError(f"start must have the shape of the noise, {list(noise.shape)}, got {list(start.shape)}")
    return path.perturb(start.to(noise), noise, t)


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
