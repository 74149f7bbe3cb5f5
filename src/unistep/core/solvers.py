"""Steps of the probability-flow ODE: a teacher's step in distillation, and the many-step samplers to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import Condition
from unistep.core.flowmap import AnyDenoiser
from unistep.core.path import expand_to

Solver = Literal["euler", "heun", "dpmpp2m"]
"""Names of the samplers in this file."""

Step = Callable[[AnyDenoiser, Tensor, Tensor, Tensor, Condition | None], Tensor]
"""``step(denoiser, x_t, t, s, condition) -> x_s`` with times of shape ``[b]``."""


def euler_step(
    denoiser: AnyDenoiser,
    x: Float[Tensor, "b *shape"],
    t: Float[Tensor, " b"],
    s: Float[Tensor, " b"],
    condition: Condition | None = None,
) -> Float[Tensor, "b *shape"]:
    r"""First-order step, :math:`x_s = x_t + (s - t)\, v(x_t, t)`; one network call.

    On the variance-exploding path it is DDIM (Song et al. 2021, arXiv 2010.02502, equation 13).
    """
    velocity = denoiser.path.velocity_from_denoised(x, denoiser(x, t, None, condition), t)
    return x + expand_to(s - t, x) * velocity


def heun_step(
    denoiser: AnyDenoiser,
    x: Float[Tensor, "b *shape"],
    t: Float[Tensor, " b"],
    s: Float[Tensor, " b"],
    condition: Condition | None = None,
) -> Float[Tensor, "b *shape"]:
    r"""Second-order step; two network calls, both at positive noise.

    .. math:: x' = x_t + (s-t) v(x_t, t), \qquad x_s = x_t + \tfrac{s-t}{2} (v(x_t, t) + v(x', s))

    References:
        Karras et al. 2022, arXiv 2206.00364, algorithm 1.
    """
    path, dt = denoiser.path, expand_to(s - t, x)
    v_t = path.velocity_from_denoised(x, denoiser(x, t, None, condition), t)
    ahead = x + dt * v_t
    v_s = path.velocity_from_denoised(ahead, denoiser(ahead, s, None, condition), s)
    return x + dt * (v_t + v_s) / 2


STEPS: dict[str, Step] = {"euler": euler_step, "heun": heun_step}
"""One-step solvers by name."""


def network_calls(solver: Solver, steps: int) -> int:
    """How often ``steps`` steps of a sampler call the network (Heun's last step, to zero, is an Euler step)."""
    return 2 * steps - 1 if solver == "heun" else steps


def trace_ode(
    denoiser: AnyDenoiser,
    noise: Float[Tensor, "b *shape"],
    grid: Float[Tensor, " n"],
    condition: Condition | None = None,
    *,
    solver: Solver = "heun",
) -> Iterator[Float[Tensor, "b *shape"]]:
    r"""Follow the ODE along ``grid`` and on to the data, yielding the signal after each step.

    The last step goes from ``grid[-1]`` to zero noise, where every solver here answers the denoiser's estimate.
    DPM-Solver++(2M) steps in :math:`\lambda = \ln(\alpha/\sigma)` with :math:`h = \lambda_s - \lambda_t`,

    .. math:: x_s = \frac{\sigma_s}{\sigma_t} x_t - \alpha_s (e^{-h} - 1)
              \left[(1 + \tfrac{1}{2\rho}) D_t - \tfrac{1}{2\rho} D_{t'}\right], \quad \rho = h'/h

    with the previous step's :math:`t', h'` (Lu et al. 2022, arXiv 2211.01095, algorithm 2).

    Args:
        denoiser: The teacher.
        noise: Standard normal noise, shape ``[b, *shape]``.
        grid: Decreasing times, shape ``[n]``; ``n`` steps are taken.
        condition: What the teacher is told.
        solver: ``euler``, ``heun`` or ``dpmpp2m``.
    """
    path = denoiser.path
    times = [grid[i].to(noise).expand(len(noise)) for i in range(len(grid))]
    x = expand_to(path.sigma(times[0]), noise) * noise
    previous: tuple[Tensor, Tensor] | None = None
    for i, t in enumerate(times):
        if i + 1 == len(times):
            yield denoiser(x, t, None, condition)
            return
        s = times[i + 1]
        if solver == "dpmpp2m":
            estimate = denoiser(x, t, None, condition)
            h = expand_to(-(path.ratio(s).log() - path.ratio(t).log()), x)
            direction = estimate
            if previous is not None:
                rho = previous[1] / h
                direction = estimate + (estimate - previous[0]) / (2 * rho)
            shrink = expand_to(path.sigma(s) / path.sigma(t), x)
            x = shrink * x - expand_to(path.alpha(s), x) * torch.expm1(-h) * direction
            previous = (estimate, h)
        else:
            x = STEPS[solver](denoiser, x, t, s, condition)
        yield x


def sample_ode(
    denoiser: AnyDenoiser,
    noise: Float[Tensor, "b *shape"],
    grid: Float[Tensor, " n"],
    condition: Condition | None = None,
    *,
    solver: Solver = "heun",
) -> Float[Tensor, "b *shape"]:
    """The end of :func:`trace_ode`: clean samples of the shape of ``noise``."""
    *_, x = trace_ode(denoiser, noise, grid, condition, solver=solver)
    return x
