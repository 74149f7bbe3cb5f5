"""Solvers of the probability-flow ODE: a teacher's step in distillation, and the many-step samplers to compare with."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import ConditionLike
from unistep.core.flowmap import AnyDenoiser, ProjectedDenoiser
from unistep.core.path import Path, expand_to
from unistep.core.sampling_inputs import Project, Times, first_point, times_of
from unistep.core.seeding import Randomness
from unistep.registry import lookup

Solver = str
"""The name of a solver in the registry: ``euler``, ``heun``, ``dpmpp2m``, or one that a plugin adds."""

Step = Callable[[AnyDenoiser, Tensor, Tensor, Tensor, ConditionLike | None], Tensor]
"""``step(denoiser, x_t, t, s, condition) -> x_s`` with times of shape ``[b]`` or broadcasting against the signal."""


def euler_step(
    denoiser: AnyDenoiser,
    x: Float[Tensor, "b *shape"],
    t: Float[Tensor, "b *levels"],
    s: Float[Tensor, "b *ends"],
    condition: ConditionLike | None = None,
) -> Float[Tensor, "b *shape"]:
    r"""First-order step, :math:`x_s = x_t + (s - t)\, v(x_t, t)`; one network call.

    On the variance-exploding path it is DDIM (Song et al. 2021, arXiv 2010.02502, equation 13).
    """
    return euler_point(denoiser.path, x, denoiser(x, t, None, condition), t, s)


def euler_point(
    path: Path,
    x: Float[Tensor, "b *shape"],
    denoised: Float[Tensor, "b *shape"],
    t: Float[Tensor, "b *levels"],
    s: Float[Tensor, "b *ends"],
) -> Float[Tensor, "b *shape"]:
    """The point of :func:`euler_step`, from what the denoiser gives at ``t``."""
    return x + (expand_to(s, x) - expand_to(t, x)) * path.velocity_from_denoised(x, denoised, t)


def heun_step(
    denoiser: AnyDenoiser,
    x: Float[Tensor, "b *shape"],
    t: Float[Tensor, "b *levels"],
    s: Float[Tensor, "b *ends"],
    condition: ConditionLike | None = None,
) -> Float[Tensor, "b *shape"]:
    r"""Second-order step; two network calls, both at positive noise.

    .. math:: x' = x_t + (s-t) v(x_t, t), \qquad x_s = x_t + \tfrac{s-t}{2} (v(x_t, t) + v(x', s))

    References:
        Karras et al. 2022, arXiv 2206.00364, algorithm 1.
    """
    path, dt = denoiser.path, expand_to(s, x) - expand_to(t, x)
    v_t = path.velocity_from_denoised(x, denoiser(x, t, None, condition), t)
    ahead = x + dt * v_t
    v_s = path.velocity_from_denoised(ahead, denoiser(ahead, s, None, condition), s)
    return x + dt * (v_t + v_s) / 2


STEPS: dict[str, Step] = {"euler": euler_step, "heun": heun_step}
"""One-step solvers by name."""


class ODESolver(ABC):
    """Goes along the ODE from time to time; an object belongs to one trajectory and may remember its earlier steps.

    A class that is registered as a ``solver`` serves by its name wherever a solver is chosen.
    """

    calls: ClassVar[int] = 1
    """Network calls of a step."""

    @abstractmethod
    def step(self, denoiser: AnyDenoiser, x: Tensor, t: Tensor, s: Tensor, condition: ConditionLike | None) -> Tensor:
        """The signal at the times ``s``.

        Args:
            denoiser: Estimates the clean signal, ``denoiser(x, t, None, condition)``; ``denoiser.path`` is its path.
            x: The signal at the times ``t``, shape ``[b, *shape]``.
            t: Times, shape ``[b]`` or broadcasting against ``x``.
            s: Times to go to, of positive noise.
            condition: Fields of the batch.
        """


@final
class Euler(ODESolver):
    """:func:`euler_step`."""

    def step(self, denoiser: AnyDenoiser, x: Tensor, t: Tensor, s: Tensor, condition: ConditionLike | None) -> Tensor:
        return euler_step(denoiser, x, t, s, condition)


@final
class Heun(ODESolver):
    """:func:`heun_step`."""

    calls = 2

    def step(self, denoiser: AnyDenoiser, x: Tensor, t: Tensor, s: Tensor, condition: ConditionLike | None) -> Tensor:
        return heun_step(denoiser, x, t, s, condition)


@final
class DPMSolverPP2M(ODESolver):
    r"""DPM-Solver++(2M), a second-order multistep solver of one network call a step.

    It steps in :math:`\lambda = \ln(\alpha/\sigma)` with :math:`h = \lambda_s - \lambda_t`,

    .. math:: x_s = \frac{\sigma_s}{\sigma_t} x_t - \alpha_s (e^{-h} - 1)
              \left[(1 + \tfrac{1}{2\rho}) D_t - \tfrac{1}{2\rho} D_{t'}\right], \quad \rho = h'/h

    with the previous step's :math:`t', h'`. Parts of a signal that stay at their time keep their previous step.

    References:
        Lu et al. 2022, arXiv 2211.01095, algorithm 2.
    """

    def __init__(self) -> None:
        self._previous: tuple[Tensor, Tensor] | None = None

    def step(self, denoiser: AnyDenoiser, x: Tensor, t: Tensor, s: Tensor, condition: ConditionLike | None) -> Tensor:
        path = denoiser.path
        estimate = denoiser(x, t, None, condition)
        h = -(expand_to(path.ratio(s).log(), x) - expand_to(path.ratio(t).log(), x))
        direction, kept = estimate, (estimate, h)
        if self._previous is not None:
            before, h_before = self._previous
            rho = h_before / h
            direction = estimate + torch.where(h_before == 0, 0, (estimate - before) / (2 * rho))
            still = h == 0
            kept = (torch.where(still, before, estimate), torch.where(still, h_before, h))
        self._previous = kept
        shrink = expand_to(path.sigma(s), x) / expand_to(path.sigma(t), x)
        return shrink * x - expand_to(path.alpha(s), x) * torch.expm1(-h) * direction


def network_calls(solver: Solver, steps: int) -> int:
    """How often ``steps`` steps of a sampler call the network; the last step, to zero noise, is one call."""
    return (steps - 1) * lookup("solver", solver).calls + 1


def trace_ode(
    denoiser: AnyDenoiser,
    noise: Float[Tensor, "b *shape"],
    times: Times,
    condition: ConditionLike | None = None,
    *,
    generator: Randomness = None,
    solver: Solver | ODESolver = "heun",
    start: Tensor | None = None,
    project: Project | None = None,
) -> Iterator[Float[Tensor, "b *shape"]]:
    """Follow the ODE along ``times`` and on to the data, yielding the signal after each step.

    The last step goes from the last time to zero noise, where every solver returns the denoiser's estimate.

    Args:
        denoiser: The teacher.
        noise: Standard normal noise, shape ``[b, *shape]``.
        times: Decreasing times, one for each step: numbers or a tensor of shape ``[n]``; or tensors of shape ``[b]`` or
            that broadcast against the signal.
        condition: Fields of the batch.
        generator: Not used, as the ODE is deterministic; every sampler takes one.
        solver: ``euler``, ``heun``, ``dpmpp2m``, another registered name, or a solver of your own.
        start: Clean signal to begin from at the first time, with ``noise`` added; pure noise without.
        project: ``project(x0, t)``, applied to each estimate of the clean signal.
    """
    del generator
    steps = times_of(times, noise)
    x = first_point(denoiser.path, noise, steps[0], start)
    follow: ODESolver = lookup("solver", solver)() if isinstance(solver, str) else solver
    if project is not None:
        denoiser = ProjectedDenoiser(denoiser, project)
    for t, s in itertools.pairwise(steps):
        x = follow.step(denoiser, x, t, s, condition)
        yield x
    yield denoiser(x, steps[-1], None, condition)


def sample_ode(
    denoiser: AnyDenoiser,
    noise: Float[Tensor, "b *shape"],
    times: Times,
    condition: ConditionLike | None = None,
    *,
    generator: Randomness = None,
    solver: Solver | ODESolver = "heun",
    start: Tensor | None = None,
    project: Project | None = None,
) -> Float[Tensor, "b *shape"]:
    """The end of :func:`trace_ode`: clean samples of the shape of ``noise``."""
    *_, x = trace_ode(
        denoiser, noise, times, condition, generator=generator, solver=solver, start=start, project=project
    )
    return x
