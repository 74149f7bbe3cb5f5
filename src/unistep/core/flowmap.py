r"""A raw network becomes a denoiser, a consistency model or a flow map; the boundary condition holds by construction.

All three read the signal through the same scalings, EDM's written for any path with the noise to signal ratio
:math:`\eta = \sigma_t/\alpha_t`: with :math:`r_t^2 = \sigma_t^2 + \alpha_t^2\sigma_d^2`,

.. math:: c_\mathrm{in} = \frac{1}{r_t}, \quad c_\mathrm{skip} = \frac{\alpha_t\sigma_d^2}{r_t^2}, \quad
          c_\mathrm{out} = \frac{\sigma_t\sigma_d}{r_t}, \quad c_\mathrm{noise} = \tfrac14 \ln\eta .

On the variance-exploding path these are Karras et al. 2022, table 1; on TrigFlow they are Lu & Song 2024, equation 5,
up to the sign of the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from unistep.core.condition import GUIDANCE, ConditionLike, Scalar, Value, as_condition, concat, labels, null_condition
from unistep.core.path import Path, expand_to

LOG_RATIO_RANGE = (-10.0, 10.0)
"""Bounds of the log noise to signal ratio that a network is given, for times at which it is infinite."""


NetworkCall = Callable[[Tensor, Tensor, Tensor | None, Mapping[str, Value]], Tensor]
"""``call(x, t, s, condition) -> like x``: a network, or what computes the same."""


_Inputs = tuple[Tensor, Tensor, Tensor | None, Mapping[str, Value]]


def c_noise(path: Path, t: Float[Tensor, "b *levels"]) -> Float[Tensor, "b *levels"]:
    r"""The noise level as a network takes it, :math:`c_\mathrm{noise} = \frac14\ln(\sigma_t/\alpha_t)`."""
    return path.ratio(t).clamp(min=1e-30).log().clamp(*LOG_RATIO_RANGE) / 4


class Map(nn.Module, ABC):
    """A network with a parametrisation: what objectives train and samplers call.

    Args:
        net: Raw network, ``forward(x, t, s, condition) -> like x``.
        path: The path whose times it is called with.
        sigma_data: Standard deviation of the data.
    """

    boundary: float = 0.0
    """Time at which a jump without a second time ends; 0 is the data itself."""
    runner: NetworkCall | None = None
    """What computes the network call in place of the network, such as another program; see ``unistep.backends``."""

    def __init__(self, net: nn.Module, path: Path, sigma_data: float = 0.5) -> None:
        super().__init__()
        if sigma_data <= 0:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.net = net
        self.path = path
        self.sigma_data = sigma_data

    def precondition(
        self, x: Tensor, t: Tensor, s: Tensor | None, condition: ConditionLike | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r"""One network call: the output in full precision and the path's scales.

        Returns:
            ``F, alpha_t, sigma_t, r_t``, the last three broadcasting against ``x``; ``F`` is float32 (float64 if ``x``
            is).
        """
        alpha, sigma = expand_to(self.path.alpha(t), x), expand_to(self.path.sigma(t), x)
        root = (sigma.square() + (alpha * self.sigma_data).square()).sqrt()
        # The second time goes down to t_min only: between it and the boundary the signal does not change, and training
        # draws so few times there that a network would not learn the code of the boundary itself.
        code_s = None if s is None else c_noise(self.path, s.clamp(min=self.path.t_min))
        # Scalings stay in float32 under autocast: near the boundary they are differences of close numbers.
        inputs = (x / root, c_noise(self.path, t), code_s, as_condition(condition))
        out = self.net(*_as_weights(self.net, inputs)) if self.runner is None else self.runner(*inputs)
        return out.to(torch.promote_types(x.dtype, torch.float32)), alpha, sigma, root

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: ConditionLike | None = None) -> Tensor:
        """Evaluate the map.

        Args:
            x: Noisy signal, shape ``[b, *shape]``.
            t: Its times, shape ``[b]`` or broadcasting against ``x``, such as ``[b, 1, frames, 1, 1]``.
            s: Times to jump to, of either shape, where the map takes them.
            condition: Fields of the batch.
        """


def _as_weights(net: nn.Module, inputs: _Inputs) -> _Inputs:
    """What a network is called with, in the type of its weights where a person gave them another than float32."""
    dtype = next((weight.dtype for weight in net.parameters() if weight.is_floating_point()), inputs[0].dtype)
    if dtype == inputs[0].dtype or inputs[0].dtype != torch.float32:
        return inputs
    return pytree.tree_map_only(Tensor, lambda one: one.to(dtype) if one.is_floating_point() else one, inputs)


def _boundary(path: Path, wanted: float | None) -> float:
    """Where a jump ends: ``wanted``, or the path's first time.

    Raises:
        ValueError: If nothing lies beyond it.
    """
    boundary = path.t_min if wanted is None else wanted
    if not 0 <= boundary < path.t_max:
        raise ValueError(f"boundary must be from 0 to below the path's last time {path.t_max:g}, got {boundary:g}")
    return boundary


class Denoiser(Map):
    r"""The posterior mean :math:`D(x_t, t) \approx E[x_0 | x_t]`.

    .. math:: D(x, t) = c_\mathrm{skip} x + c_\mathrm{out} F(c_\mathrm{in} x, c_\mathrm{noise})

    References:
        Karras et al. 2022, arXiv 2206.00364, equation 7.
    """

    def forward(
        self,
        x: Float[Tensor, "b *shape"],
        t: Float[Tensor, "b *levels"],
        s: Tensor | None = None,
        condition: ConditionLike | None = None,
    ) -> Float[Tensor, "b *shape"]:
        """Estimate the clean signal; ``s`` must be left out.

        Raises:
            ValueError: If ``s`` is given.
        """
        if s is not None:
            raise ValueError("a denoiser has no second time s; use a FlowMap")
        out, alpha, sigma, root = self.precondition(x, t, None, condition)
        return alpha * self.sigma_data**2 / root.square() * x + sigma * self.sigma_data / root * out


class ConsistencyModel(Map):
    r"""The flow map to the end of the trajectory, :math:`f(x_t, t) = x_\epsilon`, exact at the boundary.

    With the shifted level :math:`\tilde\sigma = \sigma_t - \alpha_t\eta_\epsilon`, which vanishes at the boundary,

    .. math:: f(x, t) = \frac{\alpha_t\sigma_d^2}{\tilde\sigma^2 + \alpha_t^2\sigma_d^2}\, \alpha_\epsilon x
              + \frac{\tilde\sigma\sigma_d}{r_t} F .

    On the variance-exploding path this is :math:`c_\mathrm{skip} = \sigma_d^2/((t-\epsilon)^2+\sigma_d^2)`,
    :math:`c_\mathrm{out} = \sigma_d(t-\epsilon)/\sqrt{\sigma_d^2+t^2}`.

    Args:
        net: Raw network.
        path: Path of its times.
        sigma_data: Standard deviation of the data.
        boundary: Time of the boundary; ``None`` is the path's ``t_min`` and 0 is the data itself, as in ECT.

    References:
        Song et al. 2023, arXiv 2303.01469, equations 5 and 26.
    """

    def __init__(self, net: nn.Module, path: Path, sigma_data: float = 0.5, boundary: float | None = None) -> None:
        super().__init__(net, path, sigma_data)
        self.boundary = _boundary(path, boundary)

    def forward(
        self,
        x: Float[Tensor, "b *shape"],
        t: Float[Tensor, "b *levels"],
        s: Tensor | None = None,
        condition: ConditionLike | None = None,
    ) -> Float[Tensor, "b *shape"]:
        """Jump to the boundary; ``s`` must be left out.

        Raises:
            ValueError: If ``s`` is given.
        """
        if s is not None:
            raise ValueError("a consistency model jumps to the boundary only; use a FlowMap to choose s")
        out, alpha, sigma, root = self.precondition(x, t, None, condition)
        end = torch.full_like(t[:1], self.boundary)
        level = sigma - alpha * self.path.ratio(end)
        skip = alpha * self.sigma_data**2 / (level.square() + (alpha * self.sigma_data).square())
        return skip * self.path.alpha(end) * x + level * self.sigma_data / root * out


class FlowMap(Map):
    r"""The two-time map :math:`f(x_t, t, s) = x_s`, as an average velocity.

    .. math:: f(x, t, s) = x + (s - t)\, u(x, t, s), \qquad
              u = \dot\alpha_t\, g + \dot\sigma_t (x - \alpha_t g)/\sigma_t

    with :math:`g` a denoiser-like output: at ``s = t`` it is the denoiser, and :math:`u` the velocity of the ODE.
    On the variance-exploding path this is CTM's :math:`\frac{s}{t} x + (1 - \frac{s}{t}) g`.

    Args:
        net: Raw network, with or without a second time.
        path: Path of its times.
        sigma_data: Standard deviation of the data.
        boundary: Where a jump without ``s`` ends; ``None`` is the path's ``t_min`` and 0 is the data itself.

    References:
        Kim et al. 2024, arXiv 2310.02279, equation 4; Geng et al. 2025, arXiv 2505.13447, equation 3.
    """

    def __init__(self, net: nn.Module, path: Path, sigma_data: float = 0.5, boundary: float | None = None) -> None:
        super().__init__(net, path, sigma_data)
        self.boundary = _boundary(path, boundary)

    def velocity(
        self,
        x: Float[Tensor, "b *shape"],
        t: Float[Tensor, "b *levels"],
        s: Float[Tensor, "b *ends"],
        condition: ConditionLike | None = None,
    ) -> Float[Tensor, "b *shape"]:
        r"""Average velocity :math:`u(x, t, s)` from ``t`` to ``s``; at ``s = t`` the velocity of the ODE."""
        out, alpha, sigma, root = self.precondition(x, t, s, condition)
        g = alpha * self.sigma_data**2 / root.square() * x + sigma * self.sigma_data / root * out
        # The noise (x - alpha g) / sigma with its sigma cancelled by hand: exact near the data and finite at t = 0.
        noise = sigma / root.square() * x - alpha * self.sigma_data / root * out
        return self.path.velocity(g, noise, t)

    def forward(
        self,
        x: Float[Tensor, "b *shape"],
        t: Float[Tensor, "b *levels"],
        s: Float[Tensor, "b *ends"] | None = None,
        condition: ConditionLike | None = None,
    ) -> Float[Tensor, "b *shape"]:
        """Jump from time ``t`` to time ``s``; without ``s``, to the boundary."""
        s = torch.full_like(t, self.boundary) if s is None else s
        return x + (expand_to(s, x) - expand_to(t, x)) * self.velocity(x, t, s, condition)


class GuidedDenoiser(nn.Module):
    r"""Classifier-free guidance of a denoiser, both halves in one batch.

    .. math:: D_w(x, t, c) = D(x, t) + w\,(D(x, t, c) - D(x, t))

    A condition that holds the field ``guidance``, a :class:`~unistep.core.condition.Scalar`, gives each example a
    weight of its own, and its null condition stands for 1; the denoiser does not get that field.

    Args:
        denoiser: A denoiser trained with dropped conditions.
        scale: Guidance weight :math:`w` of examples that bring none; 1 is no guidance and costs nothing.

    References:
        Ho & Salimans 2022, arXiv 2207.12598, equation 6 (their weight is :math:`w - 1`).
    """

    def __init__(self, denoiser: Denoiser, scale: float) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.scale = scale

    @property
    def path(self) -> Path:
        """The path of the denoiser's times."""
        return self.denoiser.path

    @property
    def boundary(self) -> float:
        """Where its estimates lie: at the data itself."""
        return self.denoiser.boundary

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: ConditionLike | None = None) -> Tensor:
        """Guided estimate of the clean signal, shape of ``x``."""
        if not condition:
            return self.denoiser(x, t, s, condition)
        condition = as_condition(condition)
        own = condition.get(GUIDANCE)
        shown = {name: value for name, value in condition.items() if name != GUIDANCE}
        if not labels(shown) or (own is None and self.scale == 1):
            return self.denoiser(x, t, s, shown)
        both = concat([shown, null_condition(shown)])
        conditional, unconditional = self.denoiser(torch.cat([x, x]), torch.cat([t, t]), s, both).chunk(2)
        scale = self.scale if own is None else expand_to(guidance_weight(own).to(x), x)
        return unconditional + scale * (conditional - unconditional)


def guidance_weight(value: Value) -> Float[Tensor, " b"]:
    """The guidance weights of a scalar condition, 1 for items that have none.

    Raises:
        ValueError: If the condition is of another type.
    """
    if not isinstance(value, Scalar):
        raise ValueError(f"{GUIDANCE} must be a Scalar, got a {type(value).__name__}")
    return torch.where(value.has_condition(), value.value, 1)


class ProjectedDenoiser(nn.Module):
    """A denoiser whose estimates pass through a projection.

    Args:
        denoiser: The denoiser.
        project: ``project(x0, t) -> like x0``, such as one that sets the known part of a signal.
    """

    def __init__(self, denoiser: AnyDenoiser, project: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.project = project

    @property
    def path(self) -> Path:
        """The path of the denoiser's times."""
        return self.denoiser.path

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: ConditionLike | None = None) -> Tensor:
        """Projected estimate of the clean signal, shape of ``x``."""
        return self.project(self.denoiser(x, t, s, condition), t)


AnyDenoiser = Denoiser | GuidedDenoiser | ProjectedDenoiser
"""What a solver may follow."""

AnyMap = Map | GuidedDenoiser
"""What estimates clean signals when it is called with no second time."""
