r"""The Fréchet distance as a function of a population's moments, with its derivative in closed form.

For a population with the mean :math:`m` and the covariance :math:`\Sigma`, and data with :math:`\mu` and
:math:`\Sigma_r = R^2`,

.. math:: d = \lVert m-\mu\rVert^2 + \mathrm{tr}\,\Sigma + \mathrm{tr}\,\Sigma_r
          - 2\,\mathrm{tr}\,(R\Sigma R)^{1/2}, \qquad
          \frac{\partial d}{\partial\Sigma} = G = I - R\,(R\Sigma R)^{-1/2} R .
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST_EIGENVALUE = 1e-6
r"""Least eigenvalue of :math:`R\Sigma R` in its inverse root, as a share of the largest. The derivative is infinite
where samples have no spread and data has some; this bounds it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Representation:
    """Features in which two distributions are compared, and what those of the data are like."""

    name: str
    """Name in logs."""
    features: nn.Module | Callable[[Tensor], Tensor]
    """From what the student makes, ``[b, *shape]``, to features ``[b, dim]``, differentiable; a module is frozen."""
    mean: Float[Tensor, " dim"]
    """Mean of the data's features."""
    covariance: Float[Tensor, "dim dim"]
    """Their covariance."""
    class_means: Mapping[str, Float[Tensor, "classes dim"]] = field(default_factory=dict)
    """Mean for each class of a condition, by the condition's name; NaN for one that is left alone."""
    given: bool = False
    """Whether the features, a module, take the condition too, ``features(x, condition)``, such as the frames before."""

    def __post_init__(self) -> None:
        if self.covariance.shape != (len(self.mean), len(self.mean)):
            raise ValueError(
                f"representation {self.name!r} has {len(self.mean)} means and a covariance of shape "
                f"{list(self.covariance.shape)}; they must be of the same features"
            )

    @classmethod
    def of(
        cls, name: str, features: nn.Module | Callable[[Tensor], Tensor], data: Float[Tensor, "n *shape"]
    ) -> Representation:
        """A representation with the moments of some data, in the space of what the student makes."""
        with torch.no_grad():
            found = features(data).flatten(1).double()
        return cls(name=name, features=features, mean=found.mean(dim=0), covariance=found.T.cov())


class FrechetTarget(nn.Module):
    """The moments of data, prepared for comparing many populations with them.

    They are no part of the state: the same data gives them anew, and on another machine with other roundings.

    Args:
        mean: Mean of the data's features.
        covariance: Their covariance.
    """

    mean: Tensor
    root: Tensor
    trace: Tensor

    def __init__(self, mean: Float[Tensor, " dim"], covariance: Float[Tensor, "dim dim"]) -> None:
        super().__init__()
        values, vectors = torch.linalg.eigh(covariance.double())
        self.register_buffer("mean", mean.double(), persistent=False)
        self.register_buffer("root", (vectors * values.clamp(min=0).sqrt()) @ vectors.T, persistent=False)
        self.register_buffer("trace", covariance.double().trace(), persistent=False)

    def forward(
        self, mean: Float[Tensor, " dim"], covariance: Float[Tensor, "dim dim"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " dim"], Float[Tensor, "dim dim"]]:
        r"""The squared distance, and its derivatives by the mean and by the covariance, all in float64.

        Args:
            mean: Mean of a population, float64.
            covariance: Its covariance, float64.

        Returns:
            :math:`d`, :math:`2(m-\mu)` and :math:`G`.
        """
        gap = mean - self.mean
        values, vectors = torch.linalg.eigh(self.root @ covariance @ self.root)
        distance = gap.square().sum() + covariance.trace() + self.trace - 2 * values.clamp(min=0).sqrt().sum()
        least = (SMALLEST_EIGENVALUE * values[-1]).clamp(min=torch.finfo(values.dtype).tiny)
        half = self.root @ (vectors * values.clamp(min=least).pow(-0.25))
        slope = torch.eye(len(mean), dtype=values.dtype, device=values.device) - half @ half.T
        return distance.clamp(min=0), 2 * gap, slope


def influence(
    features: Float[Tensor, "b dim"],
    mean: Float[Tensor, " dim"],
    by_mean: Float[Tensor, " dim"],
    by_covariance: Float[Tensor, "dim dim"],
) -> Float[Tensor, " b"]:
    r"""What each example's features change the distance by: the mean over a population has the distance's gradient.

    .. math:: 2\,(m-\mu)^\top\phi_i + (\phi_i - m)^\top G\,(\phi_i - m)

    :math:`d` depends on the weights through means over examples alone, :math:`m` and the second moments
    :math:`E[\phi\phi^\top]`; so its gradient is the mean of the gradients of this, in which :math:`m` and :math:`G` are
    constants. No graph of the eigenvalues is needed, and each process has the gradient of its own examples.

    Args:
        features: Features with their graph.
        mean: :math:`m`.
        by_mean: :math:`2(m-\mu)`.
        by_covariance: :math:`G`.
    """
    centred = features - mean.to(features)
    return features @ by_mean.to(features) + ((centred @ by_covariance.to(features)) * centred).sum(dim=1)
