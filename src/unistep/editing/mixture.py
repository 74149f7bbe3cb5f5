r"""A mixture of Gaussians of low rank: a model of data for which linear measurements are undone in closed form.

.. math:: p(x) = \sum_k \pi_k\, N(x;\, \mu_k, C_k), \qquad
          C_k = U_k^\top \operatorname{diag}(\lambda_k - \varepsilon_k)\, U_k + \varepsilon_k I

with orthonormal rows :math:`U_k`, the principal axes of a cluster: along these the variances are :math:`\lambda_k`,
in all other directions :math:`\varepsilon_k`.

References:
    Tipping & Bishop 1999, "Mixtures of probabilistic principal component analysers", sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

CLUSTERS, RANK = 40, 128
"""Components, and principal axes of each."""
ROUNDS = 15
"""Rounds of k-means."""
PLANE = 64
"""Dimensions in which k-means measures distances: the leading ones of the samples."""
SHRINKAGE = 200
"""Samples by which the covariance of a cluster is drawn towards that within all clusters: of a cluster with as many,
half is its own."""
POOLED = 600
"""Samples that stand for the covariance within all clusters."""
OVERSAMPLING, ITERATIONS = 16, 3
"""Directions beyond those that are wanted, and rounds, of the search for the leading ones."""
LEAST_VARIANCE = 1e-6
"""Least variance of any direction, so that all covariances are invertible."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """The parameters of a mixture; see the module."""

    weights: Float[Tensor, " k"]
    """Shares of the components, which sum to one."""
    means: Float[Tensor, "k d"]
    """Their means."""
    axes: Float[Tensor, "k r d"]
    """Their principal axes, orthonormal rows."""
    variances: Float[Tensor, "k r"]
    """Variances along these, at least the floor."""
    floor: Float[Tensor, " k"]
    """Variances of all other directions."""

    def to(self, device: torch.device) -> Mixture:
        """The same on a device."""
        return Mixture(**{part.name: getattr(self, part.name).to(device) for part in fields(self)})

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name, for a file."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


def fit_mixture(
    samples: Float[Tensor, "n *shape"],
    *,
    clusters: int = CLUSTERS,
    rank: int = RANK,
    progress: Callable[[int], object] = lambda done: None,
) -> Mixture:
    r"""Fit a mixture to samples: clusters by k-means, then the principal components of each.

    The covariance of a cluster of :math:`n` samples is :math:`w S_k + (1 - w) S` with :math:`S` that within all
    clusters and :math:`w = n / (n + 200)`, so that small clusters have enough directions.

    Args:
        samples: What the mixture is to be a model of.
        clusters: Number of components.
        rank: Principal axes of each; fewer where there are fewer values or samples.
        progress: Called with 1 after each component.

    Returns:
        The mixture, the same for the same samples.

    Raises:
        ValueError: If there are too few samples for so many clusters.

    References:
        Tipping & Bishop 1999, "Mixtures of probabilistic principal component analysers", appendix A, for the
        components; Friedman 1989, "Regularized discriminant analysis", section 2, for covariances drawn together.
    """
    x = samples.detach().float().flatten(1)
    count, size = x.shape
    if clusters < 1 or rank < 1:
        raise ValueError(f"clusters and rank must be at least 1, got {clusters} and {rank}")
    if count < 2 * clusters:
        raise ValueError(f"{count} samples are too few for {clusters} clusters; give at least {2 * clusters}")
    generator = torch.Generator().manual_seed(0)
    assigned = _clusters(x, clusters, generator)
    means = torch.stack([x[assigned == k].mean(dim=0) for k in range(clusters)])
    residual = x - means[assigned]
    pooled = residual[torch.randperm(count, generator=generator)[:POOLED]]
    rank = min(rank, size)
    axes, variances, floor = [], [], []
    for k in range(clusters):
        own = residual[assigned == k]
        share = len(own) / (len(own) + SHRINKAGE)
        rows = torch.cat([own * (share / len(own)) ** 0.5, pooled * ((1 - share) / len(pooled)) ** 0.5])
        found, along = _principal(rows, rank, generator)
        rest = ((rows.double().square().sum() - along.sum()) / max(1, size - rank)).clamp(min=LEAST_VARIANCE)
        axes.append(found)
        variances.append(along.clamp(min=float(rest)).float())
        floor.append(rest.float())
        progress(1)
    return Mixture(
        weights=torch.bincount(assigned, minlength=clusters) / count,
        means=means,
        axes=torch.stack(axes),
        variances=torch.stack(variances),
        floor=torch.stack(floor),
    )


def _clusters(x: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """The cluster of each sample by k-means; none is empty."""
    centred = x - x.mean(dim=0)
    seen = centred @ _leading(centred, PLANE, generator)
    centres = seen[torch.randperm(len(x), generator=generator)[:clusters]].clone()
    assigned = torch.cdist(seen, centres).argmin(dim=1)
    for _ in range(ROUNDS):
        distance, assigned = torch.cdist(seen, centres).min(dim=1)
        for k in range(clusters):
            sizes = torch.bincount(assigned, minlength=clusters)
            if sizes[k] == 0:  # the sample that is farthest from a centre that it shares becomes one
                assigned[torch.where(sizes[assigned] > 1, distance, -1.0).argmax()] = k
        centres = torch.stack([seen[assigned == k].mean(dim=0) for k in range(clusters)])
    return assigned


def _leading(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """An orthonormal basis ``[d, count]`` of nearly the leading directions of rows; of all where there are no more.

    References:
        Halko, Martinsson & Tropp 2011, "Finding structure with randomness", algorithm 4.4.
    """
    basis = torch.randn(rows.shape[1], min(count, rows.shape[1]), generator=generator)
    for _ in range(ITERATIONS):
        basis = torch.linalg.qr(rows.T @ (rows @ torch.linalg.qr(basis).Q)).Q
    return basis


def _principal(rows: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The leading eigenvectors ``[rank, d]`` and eigenvalues of the sum of the rows' outer products."""
    basis = _leading(rows, rank + OVERSAMPLING, generator)
    seen = (rows @ basis).double()
    values, vectors = torch.linalg.eigh(seen.T @ seen)
    return (basis @ vectors.flip(1)[:, :rank].float()).T.contiguous(), values.flip(0)[:rank].clamp(min=0)
