"""Samplers of consistency models and flow maps: plain functions of a map, noise, times, condition and generator.

Each has a trace variant that yields the signal after every step, and two hooks: ``start``, a clean signal to begin from
at the first time, and ``project(x0, t)``, which changes each estimate of the clean signal, so as to set the part of it
that is known. The samplers of denoisers are in :mod:`unistep.core.solvers`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import ConditionLike
from unistep.core.flowmap import AnyMap, ConsistencyModel, FlowMap
from unistep.core.path import Path, expand_to
from unistep.core.sampling_inputs import Project, Times, first_point, times_of
from unistep.core.seeding import Randomness, randn_like


def trace_multistep(
    consistency: AnyMap,
    noise: Float[Tensor, "b *shape"],
    times: Times,
    condition: ConditionLike | None = None,
    *,
    generator: Randomness = None,
    start: Tensor | None = None,
    project: Project | None = None,
    estimated: float = 0.0,
    excess: float = 0.0,
) -> Iterator[Float[Tensor, "b *shape"]]:
    r"""Alternate jumping to the data and adding noise back, yielding each estimate of the data.

    .. math:: x \leftarrow f(\sigma_{\tau_1} z, \tau_1); \quad
              \hat x_{\tau_n} = \tfrac{\alpha_{\tau_n}}{\alpha_\epsilon} x
              + \sqrt{\sigma_{\tau_n}^2 - (\tfrac{\alpha_{\tau_n}}{\alpha_\epsilon}\sigma_\epsilon)^2}\, z_n, \quad
              x \leftarrow f(\hat x_{\tau_n}, \tau_n)

    with :math:`\epsilon` the boundary: on the variance-exploding path, Algorithm 1 of the paper.

    With ``estimated`` :math:`= \rho`, the noise that is added back is a mixture of fresh and estimated noise, and with
    ``excess`` :math:`= \delta` the model assumes more noise than there is:

    .. math:: z_n \rightarrow \sqrt{1 - \rho^2}\, z_n
              + \rho\, \frac{\hat x_{\tau_{n-1}} - \alpha_{\tau_{n-1}} x}{\sigma_{\tau_{n-1}}}, \qquad
              f(\hat x_{\tau_n}, \tau_n) \rightarrow f(\hat x_{\tau_n}, \tau'_n), \quad
              \eta_{\tau'_n} = (1 + \delta)\, \eta_{\tau_n} .

    A denoiser with :math:`\rho = 1` and :math:`\delta = 0` follows the ODE by DDIM.

    Args:
        consistency: The model; one of another kind is read as an estimate of the data.
        noise: Standard normal noise, shape ``[b, *shape]``.
        times: Decreasing times, one for each step: numbers or a tensor of shape ``[n]``; or tensors of shape ``[b]`` or
            that broadcast against the signal. The first is usually the path's ``t_max``.
        condition: Fields of the batch.
        generator: Source of the noise that is added back; unused for one step.
        start: Clean signal to begin from at the first time, with ``noise`` added; pure noise without.
        project: ``project(x0, t)``, applied to each estimate of the clean signal.
        estimated: Share of estimated noise, in [-1, 1]; the estimate is that before ``project``.
        excess: How much more noise the model assumes, at least -1.

    References:
        Song et al. 2023, arXiv 2303.01469, algorithm 1; Garber & Tirer 2025, arXiv 2412.20596, algorithm 1, for the
        mixture (their estimated noise has the opposite sign) and the excess.
    """
    if not -1 <= estimated <= 1 or not excess > -1:
        raise ValueError(
            f"estimated must be in [-1, 1] and excess above -1, got estimated {estimated} and excess {excess}"
        )
    path = consistency.path
    steps = times_of(times, noise)
    x = first_point(path, noise, steps[0], start)
    known: Tensor | None = None
    for i, t in enumerate(steps):
        if i > 0:
            x = _renoise(path, x, torch.full_like(t, consistency.boundary), t, generator, known, estimated)
        assumed = t if excess == 0 else path.time_at(path.ratio(t) * (1 + excess)).clamp(max=path.t_max)
        clean = consistency(x, assumed, None, condition)
        if estimated != 0:
            known = (x - expand_to(path.alpha(t), x) * clean) / expand_to(path.sigma(t), x)
        x = clean if project is None else project(clean, t)
        yield x


def sample_multistep(
    consistency: ConsistencyModel,
    noise: Float[Tensor, "b *shape"],
    times: Times,
    condition: ConditionLike | None = None,
    *,
    generator: Randomness = None,
    start: Tensor | None = None,
    project: Project | None = None,
) -> Float[Tensor, "b *shape"]:
    """The end of :func:`trace_multistep`: samples of the shape of ``noise``."""
    *_, x = trace_multistep(consistency, noise, times, condition, generator=generator, start=start, project=project)
    return x


def sample_one_step(
    consistency: ConsistencyModel,
    noise: Float[Tensor, "b *shape"],
    condition: ConditionLike | None = None,
    *,
    start: Tensor | None = None,
    project: Project | None = None,
) -> Float[Tensor, "b *shape"]:
    r"""One jump from noise to data, :math:`x = f(\sigma_T z, T)`."""
    return sample_multistep(consistency, noise, [consistency.path.t_max], condition, start=start, project=project)


def trace_gamma(
    flow_map: FlowMap,
    noise: Float[Tensor, "b *shape"],
    times: Times,
    condition: ConditionLike | None = None,
    *,
    gamma: float = 0.0,
    generator: Randomness = None,
    start: Tensor | None = None,
    project: Project | None = None,
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

    The estimate of the clean signal that ``project`` changes is the jump to the boundary, a second network call for
    each jump that ends elsewhere; the end of that jump moves by its share of the change.

    Args:
        flow_map: The model.
        noise: Standard normal noise, shape ``[b, *shape]``.
        times: Decreasing times, one for each step: numbers or a tensor of shape ``[n]``; or tensors of shape ``[b]`` or
            that broadcast against the signal. The first is usually the path's ``t_max``.
        condition: Fields of the batch.
        gamma: Share of noise that is drawn afresh, in [0, 1].
        generator: Source of that noise.
        start: Clean signal to begin from at the first time, with ``noise`` added; pure noise without.
        project: ``project(x0, t)``, applied to each estimate of the clean signal.

    References:
        Kim et al. 2024, arXiv 2310.02279, algorithm 3 (gamma-sampling).
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
    path = flow_map.path
    steps = times_of(times, noise)
    x = first_point(path, noise, steps[0], start)
    for t, t_next in itertools.pairwise(steps):
        end = torch.full_like(t_next, flow_map.boundary)
        lower = torch.maximum(path.time_at(path.ratio(t_next) * math.sqrt(1 - gamma**2)), end)
        jumped = flow_map(x, t, lower, condition)
        if project is not None:
            clean = jumped if gamma == 1 else flow_map(x, t, end, condition)
            jumped = jumped + _share_of_end(path, t, lower, end, x) * (project(clean, t) - clean)
        x = _renoise(path, jumped, lower, t_next, generator) if gamma > 0 else jumped
        yield x
    t = steps[-1]
    x = flow_map(x, t, torch.full_like(t, flow_map.boundary), condition)
    yield x if project is None else project(x, t)


def sample_gamma(
    flow_map: FlowMap,
    noise: Float[Tensor, "b *shape"],
    times: Times,
    condition: ConditionLike | None = None,
    *,
    gamma: float = 0.0,
    generator: Randomness = None,
    start: Tensor | None = None,
    project: Project | None = None,
) -> Float[Tensor, "b *shape"]:
    """The end of :func:`trace_gamma`: samples of the shape of ``noise``."""
    *_, x = trace_gamma(
        flow_map, noise, times, condition, gamma=gamma, generator=generator, start=start, project=project
    )
    return x


def _renoise(
    path: Path,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    generator: Randomness,
    known: Tensor | None = None,
    share: float = 0.0,
) -> Tensor:
    """The signal ``x`` at the times ``s`` with noise up to ``t``: fresh, but for a ``share`` that is known."""
    keep = expand_to(path.alpha(t) / path.alpha(s), x)
    left = (keep * expand_to(path.sigma(s), x)).square()
    spread = (expand_to(path.sigma(t), x).square() - left).clamp(min=0)
    noise = randn_like(x, generator)
    if known is not None:
        noise = math.sqrt(1 - share**2) * noise + share * known
    return keep * x + spread.sqrt() * noise


def _share_of_end(path: Path, t: Tensor, s: Tensor, end: Tensor, x: Tensor) -> Tensor:
    r"""The factor of :math:`x_\epsilon` in :math:`x_s` where data and noise follow from :math:`x_t` and it.

    .. math:: \frac{\alpha_s\sigma_t - \sigma_s\alpha_t}{\alpha_\epsilon\sigma_t - \sigma_\epsilon\alpha_t}
    """
    alpha, sigma = expand_to(path.alpha(t), x), expand_to(path.sigma(t), x)
    kept = [expand_to(path.alpha(u), x) * sigma - expand_to(path.sigma(u), x) * alpha for u in (s, end)]
    return kept[0] / kept[1]
