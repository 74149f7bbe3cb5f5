r"""What a mixture of Gaussians says of signals that were measured, with noise or without.

With :math:`P = A^\dagger A` and what is measured undone, :math:`A^\dagger y = P x + n`, :math:`n \sim N(0, s^2 P)`,
everything follows from :math:`A` and :math:`A^\dagger`. For one component, with
:math:`W = (\lambda - \varepsilon)^{1/2} U`, :math:`B = W P`, :math:`G = B B^\top`, :math:`\rho = \varepsilon + s^2` and
:math:`r = A^\dagger y - P\mu`,

.. math:: \hat x &= \mu + W^\top (\rho I + G)^{-1} B r, \qquad
          E[x \mid y] = \hat x + \tfrac{\varepsilon}{\rho}\,(A^\dagger y - P \hat x), \\
          -2 \log p(y) &= \tfrac{1}{\rho}\left(|r|^2 - r^\top B^\top (\rho I + G)^{-1} B r\right)
          + \log |I + G/\rho| + m \log\rho + \text{const},

with :math:`m` the rank of :math:`P`. That is exact where :math:`A^\dagger` is the pseudo-inverse, and with noise where
:math:`A` is a multiple of a partial isometry (masks, means of blocks of one size, brightness).

After a call of the model at the noise level :math:`\sigma`, what is left open of its estimate has the variances
:math:`\lambda\sigma^2/(\lambda + \sigma^2)` along the axes and
:math:`\varepsilon\sigma^2/(\varepsilon + \sigma^2)` elsewhere, as for Gaussian data; the estimate takes the place of
:math:`\mu`, and these that of :math:`\lambda` and :math:`\varepsilon`.

References:
    Tipping & Bishop 1999, "Mixtures of probabilistic principal component analysers"; Song et al. 2023,
    "Pseudoinverse-guided diffusion models for inverse problems" (ICLR), and Boys et al. 2023, arXiv 2310.06721, for the
    correction with a covariance given the noise level, which they take from the data or from the model's Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from unistep.core.condition import Rows
from unistep.core.seeding import randn_like
from unistep.editing.constraints import Constraint, Linear
from unistep.editing.mixture import Mixture

TEMPERING = 0.2
"""Exponent of the likelihood in the shares of the components: a mixture of few samples is too sure of itself."""
PROBES = 64
"""Random signals by which the rank of a projector is estimated."""


@dataclass(frozen=True)
class _Group:
    """Items of one component and one operator."""

    rows: Tensor
    """Their numbers."""
    component: int
    """The component."""
    projected: Tensor
    r"""Its axes as far as they are measured, :math:`U P`, ``[r, d]``."""
    gram: Tensor
    """Their scalar products, ``[r, r]``, float64 on the processor."""


@final
class MixtureLinear(Constraint):
    r"""A linear measurement of signals of which a mixture is a model.

    Args:
        linear: The measurement.
        mixture: The mixture, of signals.
        scale: What the model sees of a signal, over the signal.
        tempering: Exponent of the likelihood, in (0, 1]; 1 for the mixture's own shares.
    """

    def __init__(self, linear: Linear, mixture: Mixture, *, scale: float = 1.0, tempering: float = TEMPERING) -> None:
        self.linear, self.mixture, self.scale, self.tempering = linear, mixture, scale, tempering
        self.sigma = linear.sigma

    @property
    def gain(self) -> Tensor:
        """That of the measurement."""
        return self.linear.gain

    @cached_property
    def _back(self) -> Tensor:
        r""":math:`A^\dagger y`, ``[b, *shape]``."""
        return self.linear.operator.A_dagger(self.linear.y)

    @cached_property
    def _noise(self) -> Tensor:
        """Variance of the noise that is undone, :math:`s^2`, ``[b]``, float64 on the processor."""
        sigma = self.sigma.cpu().double()
        if not sigma.any():
            return sigma
        operator, y = self.linear.operator, self.linear.y
        noise = randn_like(y[:1], torch.Generator().manual_seed(0)).expand_as(y)
        back = operator.A_dagger(noise)
        known = operator.A(back)  # the part of that noise which is not lost, so that the ratio is no estimate
        gain = back.flatten(1).norm(dim=1) / known.flatten(1).norm(dim=1).clamp(min=1e-12)
        return (gain.cpu().double() * sigma).square()

    def _flat_projector(self, rows: slice) -> Callable[[Tensor], Tensor]:
        """The projector of some items as a function of flat signals ``[n, d]``."""
        operator = self.linear.select(rows).operator
        shape = self._back.shape[1:]

        def project(x: Tensor) -> Tensor:
            return operator.A_dagger(operator.A(x.reshape(-1, *shape))).flatten(1)

        return project

    @property
    def _parts(self) -> list[slice]:
        """Items that have one operator."""
        operator, count = self.linear.operator, len(self._back)
        chosen = getattr(operator, "select", None)
        if count == 0 or chosen is None or chosen(slice(0, 1)) is operator:
            return [slice(0, count)]
        return [slice(i, i + 1) for i in range(count)]

    @cached_property
    def _solved(self) -> tuple[Tensor, list[_Group], Tensor]:
        """The means of the signals given what was measured, their groups, and the shares of components, ``[b, k]``."""
        means, groups, shares = [], [], []
        for rows in self._parts:
            mean, found, share = self._solve(rows)
            means.append(mean)
            groups += found
            shares.append(share)
        return torch.cat(means).view_as(self._back), groups, torch.cat(shares)

    def _solve(self, rows: slice) -> tuple[Tensor, list[_Group], Tensor]:
        """That of items with one operator."""
        mixture, project = self.mixture, self._flat_projector(rows)
        back, noise = self._back[rows].flatten(1), self._noise[rows]
        rank = _rank(project, back)
        projected_means = project(mixture.means)
        estimates, scores = [], []
        for k in range(len(mixture.weights)):
            floor = float(mixture.floor[k])
            root = (mixture.variances[k] - floor).clamp(min=0).sqrt()
            measured = root[:, None] * project(mixture.axes[k])
            residual = back - projected_means[k]
            values, vectors = torch.linalg.eigh(_double(measured @ measured.T))
            values = values.clamp(min=0)
            along = _double(residual @ measured.T) @ vectors
            rho = (floor + noise)[:, None]
            weighted = along / (rho + values)
            square = (_double(residual).square().sum(dim=1) - (along * weighted).sum(dim=1)) / rho[:, 0]
            spread = rank * rho[:, 0].log() + (1 + values / rho).log().sum(dim=1)
            scores.append(mixture.weights[k].cpu().double().log() - self.tempering * (square + spread) / 2)
            guess = mixture.means[k] + (root * (weighted @ vectors.T).to(back)) @ mixture.axes[k]
            estimates.append(guess + (floor / rho).to(back) * (back - project(guess)))
        share = torch.softmax(torch.stack(scores, dim=1), dim=1)
        mean = torch.einsum("bk,kbd->bd", share.to(back), torch.stack(estimates))
        top, groups = share.argmax(dim=1), []
        for k in top.unique().tolist():
            projected = project(mixture.axes[k])
            items = (top == k).nonzero()[:, 0] + rows.start
            groups.append(_Group(items, k, projected, _double(projected @ projected.T)))
        return mean, groups, share

    @property
    def start(self) -> Tensor:
        """The mean of the signals given what was measured."""
        return self._solved[0]

    @property
    def shares(self) -> Tensor:
        """The probabilities of the components given what was measured, ``[b, k]``."""
        return self._solved[2]

    def correct(self, x: Tensor, weight: Tensor | float = 1.0) -> Tensor:
        """The shortest way, that of the measurement."""
        return self.linear.correct(x, weight)

    def guide(self, x: Tensor, weight: Tensor | float = 1.0, level: Tensor | None = None) -> Tensor:
        """The mean given the estimate and what was measured, by each item's likeliest component.

        Args:
            x: Estimates of the model.
            weight: Unused: the mixture weighs what is measured by itself.
            level: Noise to signal ratios of the estimates, in what the model sees; the mixture's own variances without.
        """
        del weight
        flat, result = x.flatten(1), x.flatten(1).clone()
        back = self._back.flatten(1)
        for rows in self._parts:
            project = self._flat_projector(rows)
            change = back[rows] - project(flat[rows])
            mine = [group for group in self._solved[1] if rows.start <= int(group.rows[0]) < rows.stop]
            for group in mine:
                here = group.rows.to(x.device)
                result[here] += self._change(group, change[here - rows.start], level)
            share = self._floor_shares(rows, level).to(flat)
            result[rows] += share[:, None] * (back[rows] - project(result[rows]))
        return result.view_as(x)

    def _change(self, group: _Group, residual: Tensor, level: Tensor | None) -> Tensor:
        """What a residual changes along the axes, for items of one group."""
        floor, noise = self._floors(level)[group.rows], self._noise[group.rows]
        variances = self.mixture.variances[group.component].cpu().double()
        left = variances.expand(len(group.rows), -1)
        if level is not None:
            left = left / (1 + variances / self._square(level)[group.rows, None])
        root = (left - floor[:, None]).clamp(min=0).sqrt()
        system = root[:, :, None] * group.gram * root[:, None, :]
        system.diagonal(dim1=1, dim2=2).add_((floor + noise)[:, None])
        along = root * _double(residual @ group.projected.T)
        solved = torch.linalg.solve(system, along)
        return (root * solved).to(residual) @ self.mixture.axes[group.component]

    def _square(self, level: Tensor) -> Tensor:
        """Squares of noise levels, in signals."""
        return (level.reshape(-1).cpu().double() / self.scale).square().expand(len(self._noise))

    def _floors(self, level: Tensor | None) -> Tensor:
        """What is left open of each item in the directions that are no axes, ``[b]``."""
        floor = torch.zeros_like(self._noise)
        for group in self._solved[1]:
            floor[group.rows] = float(self.mixture.floor[group.component])
        return floor if level is None else floor / (1 + floor / self._square(level))

    def _floor_shares(self, rows: slice, level: Tensor | None) -> Tensor:
        """The share of what is left after that which those directions take."""
        floor = self._floors(level)[rows]
        return floor / (floor + self._noise[rows])

    def residual(self, x: Tensor) -> Tensor:
        """That of the measurement."""
        return self.linear.residual(x)

    def select(self, rows: Rows) -> MixtureLinear:
        """Some of the items."""
        return self._of(self.linear.select(rows), self.mixture)

    def check_parts(self) -> None:
        """That of the measurement."""
        self.linear.check_parts()

    def to(self, device: torch.device) -> MixtureLinear:
        """The same on a device."""
        return self._of(self.linear.to(device), self.mixture.to(device))

    def _of(self, linear: Linear, mixture: Mixture) -> MixtureLinear:
        return MixtureLinear(linear, mixture, scale=self.scale, tempering=self.tempering)


def _double(x: Tensor) -> Tensor:
    """In float64 on the processor, as not every device has it: small systems, whose differences are small."""
    return x.cpu().double()


def _rank(project: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """The rank of a projector, estimated by random signs (Hutchinson 1990); exact for a mask."""
    signs = torch.randint(0, 2, (PROBES, like.shape[1]), generator=torch.Generator().manual_seed(1)) * 2.0 - 1
    signs = signs.to(like)
    return float((signs * project(signs)).sum(dim=1).mean())
